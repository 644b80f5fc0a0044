package controlplane

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse.dev/gatehouse/internal/conf"
)

// CORS is which web pages of other origins may read what a route answers (Fetch
// standard, §3.2). It lets nobody in: their requests need a token as others do.
type CORS struct {
	// The origins, as browsers write them: https://app.example.com[:PORT], or
	// https://*.example.com for all names below one; http for localhost alone; or
	// just "*", all. Danger: a page of such an origin can do with the person's
	// token whatever this route lets it. Default: none; on a route this turns
	// gateway.cors off.
	AllowOrigins []string `yaml:"allow_origins"`
	// The methods, in capitals. Default: those of the route, else GET, HEAD and
	// POST.
	AllowMethods []string `yaml:"allow_methods"`
	// The request headers that pages may set, in lower case. Default:
	// [authorization, content-type, dpop].
	AllowHeaders []string `yaml:"allow_headers"`
	// The response headers that pages may read, in lower case. Default:
	// [ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id].
	ExposeHeaders []string `yaml:"expose_headers"`
	// How long browsers may remember the answer to a preflight, in whole seconds,
	// up to 24h. Default: 10m.
	MaxAge time.Duration `yaml:"max_age"`
	// Whether browsers send the service's cookies along; not with "*". Danger:
	// the service then acts for whoever is logged in to it, at the page's wish.
	// Default: false.
	AllowCredentials bool `yaml:"allow_credentials"`
}

const (
	corsFilter     = "gatehouse.cors"
	preflightRoute = gatehousePrefix + "preflight"
	anyOrigin      = "*"
	defaultCORSAge = 10 * time.Minute
	longestCORSAge = 24 * time.Hour
	// maxCORSList bounds each list of one CORS.
	maxCORSList = 64
)

// corsHeaders are the filter's own; a service's would contradict it.
var corsHeaders = []string{
	"access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods",
	"access-control-allow-headers", "access-control-expose-headers", "access-control-max-age",
}

func (c *CORS) setDefaults() {
	if c == nil {
		return
	}
	if c.AllowHeaders == nil {
		c.AllowHeaders = []string{"authorization", "content-type", "dpop"}
	}
	if c.ExposeHeaders == nil {
		c.ExposeHeaders = []string{"ratelimit", "ratelimit-policy", "retry-after", "www-authenticate", "x-request-id"}
	}
	conf.Default(&c.MaxAge, defaultCORSAge)
}

var (
	exactOrigin    = regexp.MustCompile(`^(https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?|http://(localhost|127\.0\.0\.1))(:[1-9][0-9]{0,4})?$`)
	wildcardOrigin = regexp.MustCompile(`^https://\*(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?){2,}(:[1-9][0-9]{0,4})?$`)
	headerName     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
)

func (c *CORS) validate() (vs conf.Violations) {
	if c == nil {
		return nil
	}
	for i, origin := range c.AllowOrigins {
		key := fmt.Sprintf("allow_origins[%d]", i)
		switch {
		case origin == anyOrigin && c.AllowCredentials:
			vs.Add(key, origin, "lets every page of the web act with the person's cookies", "list the origins, or remove allow_credentials")
		case origin == anyOrigin && len(c.AllowOrigins) > 1:
			vs.Add(key, origin, "makes the other origins pointless", "keep it alone, or remove it")
		case origin != anyOrigin && !exactOrigin.MatchString(origin) && !wildcardOrigin.MatchString(origin):
			vs.Add(key, origin, "is no origin", "write https://app.example.com, https://*.example.com or \"*\", in lower case and without a path")
		}
	}
	for key, list := range map[string][]string{"allow_methods": c.AllowMethods, "allow_headers": c.AllowHeaders, "expose_headers": c.ExposeHeaders, "allow_origins": c.AllowOrigins} {
		if len(list) > maxCORSList {
			vs.Add(key, len(list), "has too many entries", fmt.Sprintf("keep it to %d", maxCORSList))
		}
	}
	for i, m := range c.AllowMethods {
		if !method.MatchString(m) {
			vs.Add(fmt.Sprintf("allow_methods[%d]", i), m, "is no method", "write it in capitals, such as GET")
		}
	}
	for key, list := range map[string][]string{"allow_headers": c.AllowHeaders, "expose_headers": c.ExposeHeaders} {
		for i, name := range list {
			if !headerName.MatchString(name) {
				vs.Add(fmt.Sprintf("%s[%d]", key, i), name, "is no header", "write its name in lower case, such as content-type")
			}
		}
	}
	if c.MaxAge < 0 || c.MaxAge > longestCORSAge || c.MaxAge%time.Second != 0 {
		vs.Add("max_age", c.MaxAge, "is out of bounds", fmt.Sprintf("use whole seconds, up to %v", longestCORSAge))
	}
	return vs
}

// corsOf is what holds on a route; nil: no page of another origin may.
func (g *Gateway) corsOf(r *Route) *CORS {
	c := r.CORS
	if c == nil {
		c = g.CORS
	}
	if c == nil || len(c.AllowOrigins) == 0 {
		return nil
	}
	return c
}

// policy is Envoy's. A preflight that does not match is answered, without a
// permission, and not passed on.
func (c *CORS) policy(r *Route) *corsv3.CorsPolicy {
	methods := c.AllowMethods
	if methods == nil {
		methods = r.Methods
	}
	if methods == nil {
		methods = []string{"GET", "HEAD", "POST"}
	}
	p := &corsv3.CorsPolicy{
		AllowMethods:                 strings.Join(ordered(methods), ","),
		AllowHeaders:                 strings.Join(ordered(c.AllowHeaders), ","),
		ExposeHeaders:                strings.Join(ordered(c.ExposeHeaders), ","),
		MaxAge:                       strconv.FormatInt(int64(c.MaxAge/time.Second), 10),
		ForwardNotMatchingPreflights: no(),
	}
	if c.AllowCredentials {
		p.AllowCredentials = wrapperspb.Bool(true)
	}
	for _, origin := range ordered(c.AllowOrigins) {
		p.AllowOriginStringMatch = append(p.AllowOriginStringMatch, originMatcher(origin))
	}
	return p
}

func originMatcher(origin string) *matcherv3.StringMatcher {
	below, wildcard := strings.CutPrefix(origin, "https://*")
	switch {
	case origin == anyOrigin:
		return something()
	case wildcard:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: `https://[a-z0-9-]+(\.[a-z0-9-]+)*` + regexp.QuoteMeta(below)},
		}}
	default:
		return exactly(origin)
	}
}

// corsFilters is in front of all that refuses, so that pages may read why; it
// does nothing on routes without settings for it.
func (in *Inputs) corsFilters() []*hcmv3.HttpFilter {
	if !in.Gateway.hasCORS() {
		return nil
	}
	return []*hcmv3.HttpFilter{onDemand(corsFilter, &corsv3.Cors{})}
}

// share lets pages of other origins read what a route answers, refusals of later
// filters included.
func (in *Inputs) share(route *routev3.Route, r *Route) {
	c := in.Gateway.corsOf(r)
	if c == nil {
		return
	}
	route.TypedPerFilterConfig[corsFilter] = pack(c.policy(r))
	route.ResponseHeadersToRemove = append(slices.Clone(route.ResponseHeadersToRemove), corsHeaders...)
	// Caches must not hand one origin's answer to another (Fetch §3.2.5).
	vary := overwrite("vary", "Origin")
	vary.AppendAction = appendAlways
	route.ResponseHeadersToAdd = append(route.ResponseHeadersToAdd, vary)
}

// preflight is where what browsers ask before a request (Fetch §4.8) meets the
// policy of the route that the request will have; nil: the route takes OPTIONS
// itself. The filter answers without a token and without the service. It does
// not where a route is an answer of ours, so this is the route once more, with
// all that it demands. A route that shares nothing refuses, lest the answer of a
// later one let a page send what is this one's.
func (in *Inputs) preflight(r *Route) *routev3.Route {
	if !in.Gateway.hasCORS() || len(r.Methods) == 0 || slices.Contains(r.Methods, "OPTIONS") {
		return nil
	}
	pattern, err := parsePath(r.Path)
	if err != nil {
		panic(packError{err})
	}
	m := match(pattern, []string{"OPTIONS"})
	asked := matchMethods(ordered(r.Methods))
	asked.Name = "access-control-request-method"
	m.Headers = append(m.Headers, asked, &routev3.HeaderMatcher{
		Name: "origin", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: something()},
	})
	if in.Gateway.corsOf(r) == nil {
		route := refuse(preflightRoute, 403, "Forbidden", m)
		in.counted(route.TypedPerFilterConfig, nil)
		return route
	}
	route := in.route(r)
	route.Name, route.Match = preflightRoute, m
	return route
}

func something() *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: ".+"}}}
}

// hasCORS tells whether any route shares.
func (g *Gateway) hasCORS() bool {
	return slices.ContainsFunc(g.Routes, func(r Route) bool { return g.corsOf(&r) != nil })
}
