package authz

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/token"
)

// How the paths of the SPIFFE ids of all gateways, and of all services'
// sidecars, begin.
const (
	gatewayPath = "/gateway/"
	servicePath = "/service/"
)

// Validate reports all that is wrong, with keys relative to `authz`.
func (c *Config) Validate() (vs conf.Violations) {
	vs.AddUnder("", serve.ValidateAddress("listen", c.Listen, c.Identity))
	vs.AddUnder("identity", c.Identity.Validate())
	vs.AddUnder("", serve.ValidateLoopback("telemetry", c.Telemetry))
	if !isGateway(c.LocalIdentity, trustDomain(c.LocalIdentity)) {
		vs.Add("local_identity", c.LocalIdentity, "is not a gateway's SPIFFE id", "write spiffe://TRUST_DOMAIN/gateway/NAME")
	}
	if n := len(c.RuleKeys); n < 1 || n > 2 {
		vs.Add("rule_keys", n, "is not one or two keys", "list the control plane's public rule key, and its successor while it is replaced")
	}
	if c.TrustMaxAge < time.Minute || c.TrustMaxAge > 24*time.Hour {
		vs.Add("trust_max_age", c.TrustMaxAge, "is not between 1m and 24h", "use 30m: long enough to mend a control plane, and not much longer than certificates live")
	}
	if c.Skew < time.Second || c.Skew > time.Minute {
		vs.Add("skew", c.Skew, "is not between 1s and 60s", "use 30s, and synchronise the clocks")
	}
	if c.TokenCacheBytes < 1<<20 {
		vs.Add("token_cache_bytes", c.TokenCacheBytes, "is less than 1048576", "use 67108864")
	}
	if c.ProofEntries < 1024 {
		vs.Add("proof_entries", c.ProofEntries, "is less than 1024", "use 1048576")
	}
	if c.AllowedEvents != "info" && c.AllowedEvents != "debug" {
		vs.Add("allowed_events", c.AllowedEvents, "is no level for them", "write info or debug")
	}
	if c.Trust != "" {
		vs.AddUnder("", serve.ValidateAddress("trust", c.Trust, c.Identity))
	}
	if trustDomain(c.TrustIdentity) == "" {
		vs.Add("trust_identity", c.TrustIdentity, "is no SPIFFE id", "write spiffe://TRUST_DOMAIN/controlplane")
	}
	vs.AddUnder("assertions", c.Assertions.validate())
	vs.AddUnder("", c.validateIssuers())
	return vs
}

func (a *Assertions) validate() (vs conf.Violations) {
	if a.Rotate < minRotate || a.Rotate > 720*time.Hour {
		vs.Add("rotate", a.Rotate, "is not between 30s and 720h", "use 24h")
	}
	if a.CacheBytes < 1<<20 {
		vs.Add("cache_bytes", a.CacheBytes, "is less than 1048576", "use 33554432")
	}
	return vs
}

func (c *Config) validateIssuers() (vs conf.Violations) {
	if len(c.Issuers) == 0 {
		vs.Add("issuers", nil, "is empty", "list at least one issuer")
	}
	seen := map[string]bool{}
	for i, issuer := range c.Issuers {
		key := fmt.Sprintf("issuers[%d]", i)
		if seen[issuer.Issuer] {
			vs.Add(key+".issuer", issuer.Issuer, "stands a second time", "keep one of the two")
		}
		seen[issuer.Issuer] = true
		vs.AddUnder(key, issuer.validate(c.Identity))
	}
	return vs
}

func (i *Issuer) validate(identity serve.Identity) (vs conf.Violations) {
	if !isIssuer(i.Issuer) {
		vs.Add("issuer", i.Issuer, "is no issuer identifier", "write an https URL without query and fragment, as in the tokens' iss")
	}
	vs.AddUnder("", i.validateJWKSURL())
	if i.JWKSMaxAge < time.Minute {
		vs.Add("jwks_max_age", i.JWKSMaxAge, "is less than 1m", "use 24h")
	}
	if i.JWKSInterval < time.Second || i.JWKSInterval > i.JWKSMaxAge {
		vs.Add("jwks_interval", i.JWKSInterval, "is not between 1s and jwks_max_age", "use 5m")
	}
	if i.MaxLifetime < time.Minute || i.MaxLifetime > 24*time.Hour {
		vs.Add("max_lifetime", i.MaxLifetime, "is not between 1m and 24h", "use the issuer's own, at best 10m")
	}
	vs.AddUnder("", serve.ValidateAddress("feed", i.Feed, identity))
	if trustDomain(i.FeedIdentity) == "" {
		vs.Add("feed_identity", i.FeedIdentity, "is no SPIFFE id", "write spiffe://TRUST_DOMAIN/issuer")
	}
	if len(i.Algorithms) == 0 {
		vs.Add("algorithms", nil, "is empty", "write [ES256]")
	}
	for n, name := range i.Algorithms {
		if !slices.Contains(token.Algorithms(), token.Algorithm(name)) {
			vs.Add(fmt.Sprintf("algorithms[%d]", n), name, "is no algorithm for tokens here", fmt.Sprintf("use some of %v", token.Algorithms()))
		}
	}
	return vs
}

func (i *Issuer) validateJWKSURL() (vs conf.Violations) {
	if _, unix := serve.UnixPath(i.JWKSURL); unix {
		return serve.ValidateAddress("jwks_url", i.JWKSURL, serve.Identity{})
	}
	u, err := url.Parse(i.JWKSURL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		vs.Add("jwks_url", i.JWKSURL, "is no URL of a key set", "write https://HOST/PATH")
	case u.Scheme == "http" && !i.AllowInternal:
		vs.Add("jwks_url", i.JWKSURL, "is fetched in the clear", "use https, or set allow_internal for an issuer on this machine")
	case u.Scheme == "http":
		for _, v := range serve.ValidateLoopback("jwks_url", hostPort(u)) {
			vs.Add(v.Key, i.JWKSURL, "is fetched in the clear from another machine", "use https")
		}
	}
	return vs
}

func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return u.Host + ":80"
	}
	return u.Host
}

// isIssuer follows RFC 8414 §2; a path's end is part of the identifier.
func isIssuer(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && !strings.ContainsAny(s, "?#")
}

// trustDomain is that of a SPIFFE id, empty for what is none.
func trustDomain(id string) string {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	domain, path, found := strings.Cut(rest, "/")
	if !ok || !found || path == "" {
		return ""
	}
	return domain
}

// isGateway tells whether a SPIFFE id is that of a gateway in a trust domain.
func isGateway(id, domain string) bool { return isNamed(id, domain, gatewayPath) }

// isService tells whether a SPIFFE id is that of a service in a trust domain.
func isService(id, domain string) bool { return isNamed(id, domain, servicePath) }

func isNamed(id, domain, path string) bool {
	prefix := "spiffe://" + domain + path
	return domain != "" && strings.HasPrefix(id, prefix) && len(id) > len(prefix)
}
