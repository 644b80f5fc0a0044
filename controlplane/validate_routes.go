package controlplane

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/token"
)

var (
	routeID  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	method   = regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`)
	regoName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
)

func (g *Gateway) validateRoutes() (vs conf.Violations) {
	ids := map[string]int{}
	for i := range g.Routes {
		r, key := &g.Routes[i], fmt.Sprintf("routes[%d]", i)
		vs.AddUnder(key, g.validateRoute(r))
		if first, twice := ids[r.ID]; twice && r.ID != "" {
			vs.Add(key+".id", r.ID, fmt.Sprintf("is also the id of routes[%d]", first), "give each route an id of its own")
		} else {
			ids[r.ID] = i
		}
		vs.AddUnder(key, g.validateReach(i))
		vs.AddUnder(key, g.validateSidecar(r))
	}
	return vs
}

func (g *Gateway) validateRoute(r *Route) (vs conf.Violations) {
	vs.AddUnder("", r.validateMatch())
	if _, ok := g.Services[r.Service]; !ok {
		vs.Add("service", r.Service, "names no service", "declare it under gateway.services: "+strings.Join(sortedKeys(g.Services), ", ")+" are there")
	}
	if r.Timeout < 0 || r.Timeout > longestTimeout {
		vs.Add("timeout", r.Timeout, "is out of bounds", fmt.Sprintf("use more than 0s, up to %v", longestTimeout))
	}
	vs.AddUnder("", g.validateStream(r))
	vs.AddUnder("cors", r.CORS.validate())
	vs.AddUnder("", g.validateLimits("limits", r.Limits, r))
	if r.Public {
		return append(vs, r.validatePublic()...)
	}
	if g.audienceOf(r) == "" {
		vs.Add("audience", nil, "is missing", "name the API that the token must be for, here or as gateway.audience")
	}
	if len(r.Issuers) > 0 {
		vs.AddUnder("", issuers("issuers", r.Issuers))
	}
	vs.AddUnder("", r.validateBinding(g.MTLSHost != ""))
	return append(vs, r.validateDemands()...)
}

// validateMatch reports what is wrong with a route's name and with what it
// matches.
func (r *Route) validateMatch() (vs conf.Violations) {
	if !routeID.MatchString(r.ID) {
		vs.Add("id", r.ID, "is no usable id", "use letters, digits, hyphens, underscores and dots, 128 at most")
	}
	if r.ID == issuerRoute || strings.HasPrefix(r.ID, gatehousePrefix) {
		vs.Add("id", r.ID, "is taken by Gatehouse", "choose another")
	}
	if _, err := parsePath(r.Path); err != nil {
		vs.Add("path", r.Path, err.Error(), "write /orders, /orders/{id} or /orders/**")
	}
	if r.Methods != nil && len(r.Methods) == 0 {
		vs.Add("methods", nil, "is an empty list", "list the methods, or remove the key to let all through")
	}
	for i, m := range r.Methods {
		if !method.MatchString(m) || m == "CONNECT" {
			vs.Add(fmt.Sprintf("methods[%d]", i), m, "is no method that can be let through", "write it in capitals, such as GET")
		}
	}
	return vs
}

// validatePublic reports demands on a route that checks nothing: somebody
// believes in them.
func (r *Route) validatePublic() (vs conf.Violations) {
	for _, demand := range []struct {
		key string
		set bool
	}{
		{"audience", r.Audience != ""}, {"issuers", len(r.Issuers) > 0}, {"scopes", len(r.Scopes) > 0},
		{"policy", r.Policy != ""}, {"token_binding", r.TokenBinding != ""}, {"sensitive", r.Sensitive}, {"revocation_max_age", r.RevocationMaxAge != nil},
	} {
		if demand.set {
			vs.Add(demand.key, nil, "is set on a public route, where nothing is checked", "remove it, or remove public")
		}
	}
	return vs
}

// validateDemands reports what is wrong with what a guarded route demands.
func (r *Route) validateDemands() (vs conf.Violations) {
	for i, s := range r.Scopes {
		if !token.IsScope(s) {
			vs.Add(fmt.Sprintf("scopes[%d]", i), s, "is no scope (RFC 6749 §3.3)", "use printable ASCII without spaces, quotes and backslashes")
		}
	}
	if r.Policy != "" && !regoName.MatchString(r.Policy) {
		vs.Add("policy", r.Policy, "is no Rego package", "write its name as after `package`, such as orders.approve")
	}
	if age := r.RevocationMaxAge; age != nil {
		vs.AddUnder("", maxAge("revocation_max_age", *age))
		if r.Sensitive && *age > sensitiveMaxAge {
			vs.Add("revocation_max_age", *age, fmt.Sprintf("is more than the %v of a sensitive route", sensitiveMaxAge), "lower it, or remove sensitive")
		}
	}
	return vs
}

// ValidatePolicies reports routes whose policy is not among the known ones.
func (g *Gateway) ValidatePolicies(known []string) (vs conf.Violations) {
	for _, p := range g.Policies() {
		if !slices.Contains(known, p.Name) {
			vs.Add(p.Key, p.Name, "is no policy that is there", "write it into the policies folder; there are "+strings.Join(known, ", "))
		}
	}
	return vs
}

// NamedPolicy is a policy that a route names, and the key, relative to Gateway,
// under which it does.
type NamedPolicy struct{ Key, Name string }

// Policies are those that the gateway's and its services' routes name.
func (g *Gateway) Policies() (named []NamedPolicy) {
	add := func(prefix string, routes []Route) {
		for i, r := range routes {
			if r.Policy != "" {
				named = append(named, NamedPolicy{fmt.Sprintf("%sroutes[%d].policy", prefix, i), r.Policy})
			}
		}
	}
	add("", g.Routes)
	for _, name := range sortedKeys(g.Services) {
		add("services."+name+".", g.Services[name].routes(name))
	}
	return named
}

func issuers(key string, list []string) (vs conf.Violations) {
	seen := map[string]bool{}
	for i, issuer := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		u, err := url.Parse(issuer)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			vs.Add(at, issuer, "is no issuer identifier (RFC 8414 §2)", "write the https URL that tokens have as iss")
		}
		if seen[issuer] {
			vs.Add(at, issuer, "stands a second time", "list each issuer once")
		}
		seen[issuer] = true
	}
	return vs
}

func maxAge(key string, age time.Duration) (vs conf.Violations) {
	if age < time.Millisecond || age > longestMaxAge {
		vs.Add(key, age, "is out of bounds", fmt.Sprintf("use 1ms to %v", longestMaxAge))
	}
	return vs
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
