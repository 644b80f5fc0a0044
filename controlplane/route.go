package controlplane

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// Names of the generator's own routes; no configured route may have them.
const (
	gatehousePrefix = "gatehouse."
	ambiguousRoute  = gatehousePrefix + "ambiguous-path"
	hostsRoute      = gatehousePrefix + "ambiguous-host"
	unknownRoute    = gatehousePrefix + "unknown"
	redirectRoute   = gatehousePrefix + "redirect"
	issuerRoute     = "issuer"
)

// issuerPaths are the issuer's own, in front of all configured ones.
var issuerPaths = []string{"/oauth/**", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"}

// ambiguous is a `;` anywhere in the path, plain or encoded. Envoy forwards it
// as spelled; servers that know `;parameters` (Tomcat, Jetty, Spring) strip it
// and serve another path than the one that was authorized: /api/export;x is
// their /api/export, and /public/..;/export their /export.
const ambiguous = `(?i).*(;|%3b).*`

// edgeRoutes puts refusals of ambiguous paths first, then the issuer, then the
// configured routes, and 404 last, so that every request has a route and with
// it a rule or none on purpose: ext_authz does not run where no route matches.
func (in *Inputs) edgeRoutes() *routev3.RouteConfiguration {
	routes := refuseAmbiguous()
	first := len(routes)
	if in.Gateway.hasIssuer() {
		routes = append(routes, in.issuerRoutes()...)
	}
	for i := range in.Gateway.Routes {
		if before := in.preflight(&in.Gateway.Routes[i]); before != nil {
			routes = append(routes, before)
		}
		routes = append(routes, in.route(&in.Gateway.Routes[i]))
	}
	routes = append(routes, refuse(unknownRoute, 404, "Not Found", everything()))
	for _, refusing := range append(slices.Clone(routes[:first]), routes[len(routes)-1]) {
		in.counted(refusing.TypedPerFilterConfig, nil)
	}
	return &routev3.RouteConfiguration{
		Name:                    edgeRoutes,
		VirtualHosts:            []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}},
		RequestHeadersToAdd:     in.provenAddress(),
		ResponseHeadersToRemove: []string{"server", "x-powered-by"},
		ResponseHeadersToAdd:    hsts(*in.Gateway.HSTSMaxAge),
		TypedPerFilterConfig:    in.everywhere(),
	}
}

// refuseAmbiguous are the routes in front of all others: a path that servers
// read differently, and several Host headers (RFC 9112 §3.2), which Envoy joins
// by commas and would hand on: servers take the first, or the last.
func refuseAmbiguous() []*routev3.Route {
	hosts := everything()
	hosts.Headers = []*routev3.HeaderMatcher{{Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: ","}},
	}}}
	return []*routev3.Route{
		refuse(ambiguousRoute, 400, "Bad Request", &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: ambiguous}},
		}),
		refuse(hostsRoute, 400, "Bad Request", hosts),
	}
}

// everywhere are the filter settings of all routes.
func (in *Inputs) everywhere() map[string]*anypb.Any {
	if !in.Gateway.Networks.set() {
		return nil
	}
	return map[string]*anypb.Any{gatewayNetworks: in.judge(in.Gateway.Networks)}
}

// issuerRoutes are the issuer's paths, those for some networks alone first.
func (in *Inputs) issuerRoutes() (routes []*routev3.Route) {
	for _, restricted := range in.Gateway.Issuer.Restrict {
		route := toIssuer(restricted.Path)
		route.TypedPerFilterConfig[routeNetworks] = in.judge(restricted.Networks)
		routes = append(routes, route)
	}
	for _, path := range issuerPaths {
		routes = append(routes, toIssuer(path))
	}
	for _, route := range routes {
		in.counted(route.TypedPerFilterConfig, nil)
		route.GetRoute().RateLimits = in.sharedLimits(nil)
	}
	return routes
}

func toIssuer(path string) *routev3.Route {
	pattern, err := parsePath(path)
	if err != nil {
		panic(packError{err})
	}
	return &routev3.Route{
		Name:   issuerRoute,
		Match:  match(pattern, nil),
		Action: forward(issuerCluster, defaultTimeout),
		TypedPerFilterConfig: map[string]*anypb.Any{
			extAuthz: unchecked(), cookieFilter: keepCookies(),
		},
	}
}

func (in *Inputs) route(r *Route) *routev3.Route {
	pattern, err := parsePath(r.Path)
	if err != nil {
		panic(packError{err})
	}
	id := envoy.ServiceIdentity(in.TrustDomain, r.Service)
	if in.denied(id) {
		return refuse(r.ID, 503, "Service Unavailable", match(pattern, r.Methods))
	}
	route := &routev3.Route{
		Name:                 r.ID,
		Match:                match(pattern, r.Methods),
		Action:               forward(in.Gateway.wayTo(r.Service), r.Timeout),
		TypedPerFilterConfig: map[string]*anypb.Any{extAuthz: unchecked()},
	}
	if !r.Public {
		route.TypedPerFilterConfig[extAuthz] = checked(in.Signer.sign(edgeRule(&in.Gateway, r, in.TrustDomain)))
	}
	if r.Networks.set() {
		route.TypedPerFilterConfig[routeNetworks] = in.judge(r.Networks)
	}
	if in.counted(route.TypedPerFilterConfig, r) {
		route.ResponseHeadersToRemove = limitHeaderNames
	}
	in.share(route, r)
	r.stream(route.GetRoute())
	if in.Gateway.Services[r.Service].inbound() {
		watched(route, max(r.Timeout, r.Stream), id)
	}
	route.GetRoute().RateLimits = in.sharedLimits(r)
	if r.ForwardCredentials {
		route.TypedPerFilterConfig[cookieFilter] = keepCookies()
	} else {
		route.RequestHeadersToRemove = clientCredentials
	}
	if in.Gateway.MTLSHost != "" { // elsewhere the manager takes it off
		route.RequestHeadersToRemove = append(slices.Clip(route.RequestHeadersToRemove), certificateHeader)
	}
	return route
}

func match(p pathPattern, methods []string) *routev3.RouteMatch {
	m := &routev3.RouteMatch{}
	text, plain := p.prefix()
	switch {
	case !plain:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: p.regex()}}
	case !p.below:
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: text}
	case text == "":
		m.PathSpecifier = everything().PathSpecifier
	default:
		m.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: text}
	}
	if len(methods) > 0 {
		m.Headers = []*routev3.HeaderMatcher{matchMethods(ordered(methods))}
	}
	return m
}

func matchMethods(methods []string) *routev3.HeaderMatcher {
	matcher := exactly(methods[0])
	if len(methods) > 1 {
		matcher = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(methods, "|")},
		}}
	}
	return &routev3.HeaderMatcher{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: matcher}}
}

func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// forward bounds how long a service may take to answer a request that has wholly
// arrived, and the request as a whole, which one that never arrives wholly would
// put off for ever. With the latter Envoy heeds no route's timeout, but that of a
// try, of which there is one more only where nothing of the first was taken.
func forward(cluster string, timeout time.Duration) *routev3.Route_Route {
	action := &routev3.RouteAction{
		ClusterSpecifier:  &routev3.RouteAction_Cluster{Cluster: cluster},
		Timeout:           seconds(0),
		MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: seconds(requestTimeout + timeout)},
		RetryPolicy:       &routev3.RetryPolicy{},
	}
	if strings.HasPrefix(cluster, toSidecar) {
		action.RetryPolicy = onceUntaken()
	}
	action.RetryPolicy.PerTryTimeout = seconds(timeout)
	return &routev3.Route_Route{Route: action}
}

// onceUntaken sends a request again that a sidecar has taken nothing of (RFC
// 9113 §8.7), whatever its method: so one that ends while another has started on
// its address loses none.
func onceUntaken() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn: "connect-failure,refused-stream", NumRetries: number(1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: seconds(retryPause), MaxInterval: seconds(retryPause)},
	}
}

// refuse answers with a problem document (RFC 9457); a gRPC client gets the
// matching status from Envoy.
func refuse(name string, status uint32, title string, m *routev3.RouteMatch) *routev3.Route {
	return &routev3.Route{
		Name:  name,
		Match: m,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: status,
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
				InlineString: fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d}`+"\n", title, status),
			}},
		}},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{overwrite("content-type", "application/problem+json")},
		TypedPerFilterConfig: map[string]*anypb.Any{extAuthz: unchecked(), cookieFilter: keepCookies()},
	}
}

const appendAlways = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// hsts is RFC 6797 §6.1; the redirect listener must not send it (§7.2).
func hsts(age time.Duration) []*corev3.HeaderValueOption {
	if age == 0 {
		return nil
	}
	return []*corev3.HeaderValueOption{overwrite("strict-transport-security", "max-age="+strconv.FormatInt(int64(age/time.Second), 10))}
}

// redirectRoutes lead to public_url, whatever the Host header says, so that
// nobody can be led elsewhere.
func (in *Inputs) redirectRoutes() *routev3.RouteConfiguration {
	public, _ := url.Parse(in.Gateway.PublicURL)
	port := uint64(443)
	if public.Port() != "" {
		port, _ = strconv.ParseUint(public.Port(), 10, 16)
	}
	redirect := &routev3.RedirectAction{
		SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
		HostRedirect:           public.Hostname(),
		PortRedirect:           uint32(port),
		ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT, // keeps the method
	}
	route := &routev3.Route{Name: redirectRoute, Match: everything(), Action: &routev3.Route_Redirect{Redirect: redirect}}
	return &routev3.RouteConfiguration{
		Name:                 redirectRoutes,
		VirtualHosts:         []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{route}}},
		TypedPerFilterConfig: in.everywhere(),
	}
}
