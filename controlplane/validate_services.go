package controlplane

import (
	"fmt"
	"net"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
)

func (g *Gateway) validateServices() (vs conf.Violations) {
	for _, name := range sortedKeys(g.Services) {
		if !serviceName.MatchString(name) {
			vs.Add(name, nil, "is no usable service name", "use lower-case letters, digits and hyphens, 63 at most")
		}
		s := g.Services[name]
		vs.AddUnder(name, s.validate(true))
		vs.AddUnder(name, g.validateAllowFrom(name))
		vs.AddUnder(name, s.validateRoutes(name))
		if s.Sidecar != nil {
			vs.AddUnder(name, s.validateBeside())
			vs.AddUnder(name+".sidecar", s.Sidecar.validate())
			vs.AddUnder(name+".sidecar", g.validateReached(name))
		}
	}
	return append(vs, g.validatePorts()...)
}

// validateBeside reports a back end that does not fit one with a sidecar, and
// that stands for the sidecar itself.
func (s Service) validateBeside() (vs conf.Violations) {
	b, err := parseBackend(s.URL)
	if err != nil {
		return nil
	}
	if !b.tls && !b.loopback() && s.AllowPlaintext {
		vs.Add("url", s.URL, "leaves the machine unencrypted behind its sidecar", "run the sidecar beside the service and write http://127.0.0.1:PORT, or use https://")
	}
	for _, own := range []string{s.Sidecar.Listen, s.Sidecar.Outbound} {
		if at, err := splitHostPort(own); err == nil && b.loopback() && at.port == b.port && local(at.host) {
			vs.Add("url", s.URL, "is where its own sidecar listens", "write where the service itself listens")
		}
	}
	return vs
}

func (s *Sidecar) validate() (vs conf.Violations) {
	if s.Address == "" && s.Outbound == "" {
		vs.Add("address", nil, "is missing, and so is outbound", "write HOST:PORT at which others reach the service, or remove sidecar")
	}
	if s.Address != "" {
		if at, err := splitHostPort(s.Address); err != nil || unspecified(at.host) {
			vs.Add("address", s.Address, "is no address to be reached at", "write HOST:PORT, such as orders.internal:9201")
			return vs
		}
		vs.AddUnder("", ipPort("listen", s.Listen))
	} else if s.Listen != "" {
		vs.Add("listen", s.Listen, "is set without address, so nobody comes", "set address, or remove listen")
	}
	if s.Outbound != "" {
		if at, err := splitHostPort(s.Outbound); err != nil || net.ParseIP(at.host) == nil || !net.ParseIP(at.host).IsLoopback() {
			vs.Add("outbound", s.Outbound, "is no loopback address to listen on", "write such as 127.0.0.1:9301: it has no TLS, so nobody else may reach it")
		}
	}
	if s.Timeout < 0 || s.Timeout > longestTimeout {
		vs.Add("timeout", s.Timeout, "is out of bounds", fmt.Sprintf("use more than 0s, up to %v", longestTimeout))
	}
	return vs
}

// validateReached reports a sidecar that others are to reach and cannot.
func (g *Gateway) validateReached(name string) (vs conf.Violations) {
	s := g.Services[name]
	if s.inbound() {
		return nil
	}
	for i, r := range g.Routes {
		if r.Service == name {
			vs.Add("address", nil, fmt.Sprintf("is missing, while routes[%d] (%s) leads here", i, r.ID), "write HOST:PORT at which the edge reaches the sidecar")
			return vs
		}
	}
	if len(s.AllowFrom) > 0 {
		vs.Add("address", nil, "is missing, while allow_from lets others call", "write HOST:PORT at which they reach the sidecar")
	}
	return vs
}

func (g *Gateway) validateAllowFrom(name string) (vs conf.Violations) {
	s, seen := g.Services[name], map[string]bool{}
	if s.Sidecar == nil && len(s.AllowFrom) > 0 {
		vs.Add("allow_from", nil, "is set for a service without a sidecar, so nobody enforces it", "give the service a sidecar, or remove allow_from")
	}
	for i, caller := range s.AllowFrom {
		key := fmt.Sprintf("allow_from[%d]", i)
		from, known := g.Services[caller]
		switch {
		case caller == name:
			vs.Add(key, caller, "is the service itself, which calls itself without its sidecar", "remove it")
		case !known:
			vs.Add(key, caller, "names no service", "declare it under gateway.services, or remove it")
		case seen[caller]:
			vs.Add(key, caller, "stands a second time", "list each service once")
		case !from.outbound():
			vs.Add(key, caller, "names a service that cannot call others", "set gateway.services."+caller+".sidecar.outbound")
		}
		seen[caller] = true
	}
	return vs
}

// validateRoutes reports what is wrong with the service's own routes, by the
// rules of the gateway's.
func (s Service) validateRoutes(name string) (vs conf.Violations) {
	if s.Routes != nil && len(s.Routes) == 0 {
		vs.Add("routes", nil, "is an empty list", "list what the sidecar lets through, or remove the key to demand an assertion and no more")
	}
	if len(s.Routes) > 0 && !s.inbound() {
		vs.Add("routes", nil, "are set for a service without a sidecar that others reach, so nobody enforces them", "set sidecar.address, or remove routes")
	}
	routes, ids := s.routes(name), map[string]int{}
	for i := range routes {
		r, key := &routes[i], fmt.Sprintf("routes[%d]", i)
		vs.AddUnder(key, r.validateMatch())
		if first, twice := ids[r.ID]; twice && r.ID != "" {
			vs.Add(key+".id", r.ID, fmt.Sprintf("is also the id of routes[%d]", first), "give each route an id of its own")
		} else {
			ids[r.ID] = i
		}
		if r.Public {
			vs.AddUnder(key, r.validatePublic())
		} else {
			vs.AddUnder(key, r.validateDemands())
		}
		if path, err := parsePath(r.Path); err == nil {
			vs.AddUnder(key, reached(routes, i, path))
		}
	}
	return vs
}

// validateSidecar reports a route of the gateway that promises what the
// service's own routes do not keep: the sidecar would refuse its requests for
// want of an assertion, or take their credentials away.
func (g *Gateway) validateSidecar(r *Route) (vs conf.Violations) {
	own := g.Services[r.Service].routes(r.Service)
	path, err := parsePath(r.Path)
	if len(own) == 0 || err != nil {
		return nil
	}
	report := func(key, demand string, keeps func(Route) bool) {
		if !slices.ContainsFunc(own, func(o Route) bool { return keeps(o) && o.takesAllOf(path, r.Methods) }) {
			vs.Add(key, true, "is not so at the service's sidecar, whose own routes "+demand,
				fmt.Sprintf("add {path: %s, %s: true} to gateway.services.%s.routes, or remove %s", r.Path, key, r.Service, key))
		}
	}
	if r.Public {
		report("public", "demand an assertion", func(o Route) bool { return o.Public })
	}
	if r.ForwardCredentials {
		report("forward_credentials", "remove credentials", func(o Route) bool { return o.ForwardCredentials })
	}
	return vs
}

// takesAllOf tells whether the route matches every request to a path with some
// methods, none meaning all.
func (r Route) takesAllOf(path pathPattern, methods []string) bool {
	own, err := parsePath(r.Path)
	if err != nil || !own.covers(path) {
		return false
	}
	outside := func(m string) bool { return !slices.Contains(r.Methods, m) }
	return len(r.Methods) == 0 || len(methods) > 0 && !slices.ContainsFunc(methods, outside)
}
