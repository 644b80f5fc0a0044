package app

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/controlplane"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer"
	"gatehouse.dev/gatehouse/policies"
)

// check is what the decoding found, every part's Validate and what only the
// whole can know, reported together.
func (c *Config) check(decoded conf.Violations) error {
	vs := append(decoded, except(decoded, c.validate())...)
	faults, unknown := c.checkPolicies()
	vs = append(vs, unknown...)
	if len(vs) == 0 && len(faults) == 0 {
		return nil
	}
	return &Invalid{Path: c.file.path, Violations: c.file.doc.Locate(vs), Policies: faults}
}

// CheckFiles reports files of this site's issuer that a start of it would refuse.
func (c *Config) CheckFiles() error {
	if c.Issuer == nil {
		return nil
	}
	var vs conf.Violations
	vs.AddUnder("issuer", c.Issuer.ValidateFiles())
	if len(vs) == 0 {
		return nil
	}
	return &Invalid{Path: c.file.path, Violations: c.file.doc.Locate(vs)}
}

// except leaves out what follows from a value that could not be decoded.
func except(decoded, found conf.Violations) (rest conf.Violations) {
	for _, v := range found {
		follows := slices.ContainsFunc(decoded, func(d conf.Violation) bool {
			return within(d.Key, v.Key) || within(v.Key, d.Key)
		})
		if !follows {
			rest = append(rest, v)
		}
	}
	return rest
}

// within tells whether key is outer or below it.
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (c *Config) validate() (vs conf.Violations) {
	if c.Version != 1 {
		vs.Add("version", c.Version, "is no version that this gatehouse reads", "write 1")
	}
	if !isTrustDomain(c.TrustDomain) {
		vs.Add("trust_domain", c.TrustDomain, "is no SPIFFE trust domain", "use lower-case letters, digits, dots, dashes and underscores")
	}
	vs.AddUnder("gateway", c.Gateway.Validate())
	if c.Issuer != nil {
		vs.AddUnder("issuer", c.Issuer.Validate())
		vs = append(vs, c.checkIssuer()...)
	}
	vs.AddUnder("authz", c.Authz.Validate())
	if c.RateLimit != nil {
		vs.AddUnder("ratelimit", c.RateLimit.Validate())
	}
	vs.AddUnder("controlplane", c.ControlPlane.Validate())
	vs.AddUnder("envoy", c.Envoy.Validate())
	vs = append(vs, c.checkTrust()...)
	vs = append(vs, c.checkSidecars()...)
	_, lists := c.Gateway.ReadLists()
	vs.AddUnder("gateway", lists)
	return append(vs, c.checkAddresses()...)
}

// isTrustDomain follows SPIFFE-ID §2.1.
func isTrustDomain(name string) bool {
	return name != "" && len(name) <= 255 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

// checkIssuer compares what routes demand with what the issuer of this file can
// put into a token.
func (c *Config) checkIssuer() (vs conf.Violations) {
	if c.Issuer.URL != c.Gateway.PublicURL {
		vs.Add("issuer.url", c.Issuer.URL, "is not gateway.public_url, under which the gateway serves the issuer", "make both the same")
	}
	for i, route := range c.Gateway.Routes {
		// Another issuer may have other APIs.
		if issuers := c.issuersOf(route); !route.Public && len(issuers) == 1 && issuers[0] == c.Issuer.URL {
			vs.AddUnder(fmt.Sprintf("gateway.routes[%d]", i), c.checkRoute(route))
		}
	}
	return append(vs, c.checkServiceScopes()...)
}

func (c *Config) issuersOf(route controlplane.Route) []string {
	if len(route.Issuers) > 0 {
		return route.Issuers
	}
	return c.Gateway.Issuers
}

// checkRoute reports a demand that no token of the issuer can meet.
func (c *Config) checkRoute(route controlplane.Route) (vs conf.Violations) {
	audience := route.Audience
	if audience == "" {
		audience = c.Gateway.Audience
	}
	at := slices.IndexFunc(c.Issuer.APIs, func(a issuer.API) bool { return a.Audience == audience })
	if at < 0 {
		if audience != "" { // the gateway reports one that is missing
			vs.Add("audience", audience, "is the audience of no API", fmt.Sprintf("declare it under issuer.apis: - {audience: %s, scopes: [%s]}", audience, strings.Join(route.Scopes, ", ")))
		}
		return vs
	}
	for i, scope := range route.Scopes {
		if !slices.Contains(c.Issuer.APIs[at].Scopes, scope) {
			vs.Add(fmt.Sprintf("scopes[%d]", i), scope, "is no scope of the API "+audience, fmt.Sprintf("add it to issuer.apis[%d].scopes, or use one of %s", at, strings.Join(c.Issuer.APIs[at].Scopes, ", ")))
		}
	}
	return vs
}

// checkTrust reports an issuer that routes accept and the authorizer does not
// know: every request would be answered 503.
func (c *Config) checkTrust() (vs conf.Violations) {
	known := map[string]bool{}
	for _, i := range c.Authz.Issuers {
		known[i.Issuer] = true
	}
	report := func(key string, issuers []string) {
		for i, id := range issuers {
			if !known[id] {
				vs.Add(fmt.Sprintf("%s[%d]", key, i), id, "is no issuer that the authorizer knows", "add it to authz.issuers")
			}
		}
	}
	report("gateway.issuers", c.Gateway.Issuers)
	for i, route := range c.Gateway.Routes {
		report(fmt.Sprintf("gateway.routes[%d].issuers", i), route.Issuers)
	}
	return vs
}

// checkPolicies loads the policies: their own faults, and routes that name one
// that is not there.
func (c *Config) checkPolicies() (faults policies.Faults, vs conf.Violations) {
	set, err := policies.Load(string(c.Policies))
	if err != nil {
		if !errors.As(err, &faults) {
			faults = policies.Faults{{File: string(c.Policies), Reason: err.Error()}}
		}
		return faults, nil
	}
	for _, p := range c.Gateway.Policies() {
		if !set.Has(p.Name) {
			remedy := "use one of " + strings.Join(set.Names(), ", ")
			if c.Policies == "" {
				remedy = "write it into a folder `policies` beside this file"
			}
			vs.Add("gateway."+p.Key, p.Name, "is no policy that is there", remedy)
		}
	}
	return nil, vs
}

// checkAddresses reports two listeners on one address.
func (c *Config) checkAddresses() (vs conf.Violations) {
	seen := map[string]string{}
	for _, l := range c.listeners() {
		if l.address == "" || port(l.address) == "0" {
			continue
		}
		if other, taken := seen[l.address]; taken {
			if strings.HasPrefix(l.key, "gateway.services.") && strings.HasPrefix(other, "gateway.") {
				continue // the gateway reports it
			}
			vs.Add(l.key, l.address, "is also "+other, "give each an address of its own")
			continue
		}
		seen[l.address] = l.key
	}
	return vs
}

type listener struct{ key, address string }

// listeners are the addresses that the parts of this file listen on.
func (c *Config) listeners() []listener {
	all := []listener{
		{"gateway.listen", c.Gateway.Listen},
		{"gateway.redirect_listen", c.Gateway.RedirectListen},
		{"authz.listen", c.Authz.Listen},
		{"authz.telemetry", c.Authz.Telemetry},
		{"controlplane.listen", c.ControlPlane.Listen},
		{"controlplane.telemetry", c.ControlPlane.Telemetry},
		{"controlplane.enrolment_listen", c.ControlPlane.EnrolmentListen},
		{"controlplane.ca.admin_socket", c.ControlPlane.CA.AdminSocket},
		{"envoy.admin", c.Envoy.Admin},
		{"envoy.agent", c.Envoy.Agent},
		{"envoy.telemetry", c.Envoy.Telemetry},
	}
	if c.Issuer != nil {
		all = append(all,
			listener{"issuer.listen", c.Issuer.Listen}, listener{"issuer.feed_listen", c.Issuer.FeedListen},
			listener{"issuer.admin_socket", c.Issuer.AdminSocket}, listener{"issuer.telemetry", c.Issuer.Telemetry})
	}
	if c.RateLimit != nil {
		all = append(all, listener{"ratelimit.listen", c.RateLimit.Listen}, listener{"ratelimit.telemetry", c.RateLimit.Telemetry})
	}
	for _, l := range c.Gateway.SidecarListeners() {
		all = append(all, listener{"gateway." + l.Key, l.Address})
	}
	return all
}

func port(address string) string {
	if _, unix := serve.UnixPath(address); unix {
		return ""
	}
	_, p, _ := net.SplitHostPort(address)
	return p
}
