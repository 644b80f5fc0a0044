package controlplane

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

// Limit is how many requests somebody may send: a bucket that holds `burst` and
// fills at `requests` per `per`.
type Limit struct {
	// Whom to count by: address (the client's; an IPv6 one by its /64), client,
	// subject, token, or, on a route, route: all callers together. All but
	// address count what the check let in. Default: none, required.
	By string `yaml:"by"`
	// How many requests. Default: none, required.
	Requests int64 `yaml:"requests"`
	// In which time, in whole seconds, up to 24h. Default: 1m.
	Per time.Duration `yaml:"per"`
	// How many may come at once. Default: requests.
	Burst int64 `yaml:"burst"`
	// Whether all gateways count together, in the rate-limit service, after the
	// check. Danger: it costs a call for each request, and refuses all where the
	// service is gone. Default: false, each Envoy counts for itself.
	Shared bool `yaml:"shared"`

	prefix string // of its name
}

const (
	defaultPer = time.Minute
	longestPer = 24 * time.Hour
	// maxLimits bounds the limits of one place.
	maxLimits = 8
)

func (l *Limit) setDefaults(prefix string) {
	conf.Default(&l.Per, defaultPer)
	conf.Default(&l.Burst, l.Requests)
	l.prefix = prefix
}

// name is the limit's in response headers, of which each must have another.
func (l *Limit) name() string {
	return fmt.Sprintf("%s%s-%ds", l.prefix, l.By, int64(l.Per/time.Second))
}

// byCaller tells whether the limit counts what the check found out.
func (l *Limit) byCaller() bool {
	return l.By == envoy.ByClient || l.By == envoy.BySubject || l.By == envoy.ByToken
}

// countsOn tells whether the limit counts requests of a route; nil: one of the
// generator's own, which nobody is identified for.
func (l *Limit) countsOn(r *Route) bool {
	switch {
	case l.byCaller():
		return r != nil && !r.Public
	case l.By == envoy.ByRoute:
		return r != nil
	default:
		return true
	}
}

// validateLimits reports what is wrong with the limits of the gateway (no
// route) or of a route.
func (g *Gateway) validateLimits(key string, limits []Limit, route *Route) (vs conf.Violations) {
	if len(limits) > maxLimits {
		vs.Add(key, nil, fmt.Sprintf("has %d limits, more than %d", len(limits), maxLimits), "keep those that bind")
	}
	names := map[string]bool{}
	for i, l := range limits {
		at := fmt.Sprintf("%s[%d]", key, i)
		vs.AddUnder(at, l.validate(route))
		if name := fmt.Sprint(l.name(), l.Shared); names[name] {
			vs.Add(at, l.By, "has a second limit for the same time", "keep one of the two")
		} else {
			names[name] = true
		}
	}
	return vs
}

func (l *Limit) validate(route *Route) (vs conf.Violations) {
	known := []string{envoy.ByAddress, envoy.ByClient, envoy.BySubject, envoy.ByToken, envoy.ByRoute}
	switch {
	case !slices.Contains(known, l.By):
		vs.Add("by", l.By, "is nobody to count by", "write one of "+strings.Join(known, ", "))
	case l.By == envoy.ByRoute && route == nil:
		vs.Add("by", l.By, "belongs on a route", "move it there, or count by address, client, subject or token")
	case l.byCaller() && route != nil && route.Public:
		vs.Add("by", l.By, "is unknown on a public route, where nothing is checked", "count by address or route, or remove public")
	}
	if l.Requests < 1 || l.Requests > math.MaxInt32 {
		vs.Add("requests", l.Requests, "is out of bounds", "use 1 to 2147483647")
	}
	if l.Burst != l.Requests && (l.Burst < 1 || l.Burst > math.MaxInt32) { // else it is requests again
		vs.Add("burst", l.Burst, "is out of bounds", "use 1 to 2147483647")
	}
	if l.Per < time.Second || l.Per > longestPer || l.Per%time.Second != 0 {
		vs.Add("per", l.Per, "is no number of whole seconds up to 24h", "write such as 1s, 1m or 1h")
	}
	if float64(l.Burst)*float64(l.Per.Microseconds()) > 1<<52 {
		vs.Add("burst", l.Burst, fmt.Sprintf("is more than can be counted exactly in %v", l.Per), "lower it, or shorten per")
	}
	return vs
}

// NeedsService tells whether anything is counted by all gateways together.
func (g *Gateway) NeedsService() bool {
	shared := func(l Limit) bool { return l.Shared }
	return slices.ContainsFunc(g.Limits, shared) || slices.ContainsFunc(g.Routes, func(r Route) bool {
		return slices.ContainsFunc(r.Limits, shared)
	})
}

// here are the limits of a list that each Envoy counts for itself and that ok
// takes, the narrowest last; Envoy tells of them in this order.
func here(limits []Limit, ok func(*Limit) bool) (some []Limit) {
	for _, l := range limits {
		if !l.Shared && ok(&l) {
			some = append(some, l)
		}
	}
	return some
}

func byAddress(l *Limit) bool  { return l.By == envoy.ByAddress }
func afterCheck(l *Limit) bool { return l.By != envoy.ByAddress }
