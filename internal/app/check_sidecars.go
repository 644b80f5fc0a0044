package app

import (
	"errors"
	"fmt"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer"
)

// checkSidecars reports parts that sidecars could not reach: a Unix socket is
// for the Envoys of one machine and one identity, and tells no sidecar from the
// edge.
func (c *Config) checkSidecars() (vs conf.Violations) {
	overTLS := func(address string) bool { _, unix := serve.UnixPath(address); return !unix }
	overUnix := func(address string) bool { return !overTLS(address) }
	if !c.Gateway.HasSidecars() {
		if authz := c.ControlPlane.Authz; slices.ContainsFunc(authz, overTLS) && slices.ContainsFunc(authz, overUnix) {
			vs.Add("controlplane.authz", nil, "mixes Unix sockets and TCP addresses without sidecars, so nobody asks the latter", "use one kind")
		}
		return vs
	}
	const why = "is a Unix socket, which tells no sidecar from the edge, while gateway.services has sidecars"
	if _, unix := serve.UnixPath(c.ControlPlane.Listen); unix {
		vs.Add("controlplane.listen", c.ControlPlane.Listen, why, "write HOST:PORT, and set controlplane.identity")
	}
	if !slices.ContainsFunc(c.ControlPlane.Authz, overTLS) {
		vs.Add("controlplane.authz", c.ControlPlane.Authz, "has Unix sockets alone, while gateway.services has sidecars", "write the HOST:PORT that authz.listen has, and set authz.identity")
	}
	return vs
}

// checkEdgeIdentity reports an edge on its own that has no certificate to show to
// sidecars; `gatehouse run` makes one.
func (c *Config) checkEdgeIdentity() error {
	if c.Gateway.HasSidecars() && !c.Envoy.Identity.Set() {
		return errors.New("envoy.identity is missing, while gateway.services has sidecars, which admit the edge by its certificate alone: set it")
	}
	return nil
}

// checkServiceScopes reports scopes of services' own routes that are of no API:
// no assertion has them where the site's issuer is the only one.
func (c *Config) checkServiceScopes() (vs conf.Violations) {
	if len(c.Gateway.Issuers) != 1 || c.Gateway.Issuers[0] != c.Issuer.URL || c.otherIssuers() {
		return nil
	}
	known := func(scope string) bool {
		return slices.ContainsFunc(c.Issuer.APIs, func(a issuer.API) bool { return slices.Contains(a.Scopes, scope) })
	}
	for name, service := range c.Gateway.Services {
		for i, route := range service.Routes {
			for j, scope := range route.Scopes {
				if !known(scope) {
					vs.Add(fmt.Sprintf("gateway.services.%s.routes[%d].scopes[%d]", name, i, j), scope, "is no scope of any API", "add it to the scopes of one of issuer.apis")
				}
			}
		}
	}
	return vs
}

// otherIssuers tells whether some route accepts an issuer besides the site's.
func (c *Config) otherIssuers() bool {
	for _, route := range c.Gateway.Routes {
		if slices.ContainsFunc(route.Issuers, func(id string) bool { return id != c.Issuer.URL }) {
			return true
		}
	}
	return false
}
