package issuer

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// maxAccessTokenLifetime bounds how long a token outlives what it was
	// granted for where nobody checks revocation.
	maxAccessTokenLifetime = 10 * time.Minute
	maxCodeLifetime        = time.Minute
	maxIDTokenLifetime     = time.Hour
	maxRefreshLifetime     = 365 * 24 * time.Hour
	maxRefreshGrace        = time.Minute
	maxSessionLifetime     = 30 * 24 * time.Hour
)

// Validate reports everything that is wrong, with keys relative to `issuer`.
func (c *Config) Validate() (vs conf.Violations) {
	vs = append(vs, validateURL("url", c.URL)...)
	vs = append(vs, c.validateListen()...)
	vs = append(vs, serve.ValidateLoopback("telemetry", c.Telemetry)...)
	vs = append(vs, serve.ValidateAddress("feed_listen", c.FeedListen, c.Identity)...)
	if _, unix := serve.UnixPath(c.AdminSocket); !unix {
		vs.Add("admin_socket", c.AdminSocket, "is no Unix socket", "write unix:PATH: its mode says who may administer")
	} else {
		vs = append(vs, serve.ValidateAddress("admin_socket", c.AdminSocket, c.Identity)...)
	}
	vs.AddUnder("identity", c.Identity.Validate())
	for i, id := range c.FeedClients {
		if !strings.HasPrefix(id, "spiffe://") {
			vs.Add(fmt.Sprintf("feed_clients[%d]", i), id, "is no SPIFFE id", "write spiffe://TRUST_DOMAIN/PATH")
		}
	}
	if c.Templates != "" {
		if err := login.CheckTheme(string(c.Templates)); err != nil {
			vs.Add("templates", c.Templates, fmt.Sprintf("does not do (%v)", err), "mend it, or leave it out for the built-in pages")
		}
	}
	vs = append(vs, c.validateLifetimes()...)
	for i, algorithm := range c.Keys.Algorithms {
		vs = append(vs, validateAlgorithm(fmt.Sprintf("keys.algorithms[%d]", i), algorithm)...)
	}
	vs = append(vs, c.validateAPIs()...)
	vs.AddUnder("registration", c.Registration.validate(newCatalog(*c).scopes))
	if c.MTLSURL == "" && c.Registration.policy().Requires(store.RequireCertificateBound) {
		vs.Add("registration.require", store.RequireCertificateBound, "needs mutual TLS", "set mtls_url, or leave it out")
	}
	vs = append(vs, c.validateExchanges()...)
	vs = append(vs, c.validateVouchers()...)
	return append(vs, c.validateRoles()...)
}

// validateListen keeps the plain listener to this machine, and to its own user
// where certificates are believed from it.
func (c *Config) validateListen() (vs conf.Violations) {
	_, unix := serve.UnixPath(c.Listen)
	if unix {
		vs = append(vs, serve.ValidateAddress("listen", c.Listen, c.Identity)...)
	} else {
		vs = append(vs, serve.ValidateLoopback("listen", c.Listen)...)
	}
	if c.MTLSURL == "" {
		return vs
	}
	vs = append(vs, validateURL("mtls_url", c.MTLSURL)...)
	if c.MTLSURL == c.URL {
		vs.Add("mtls_url", c.MTLSURL, "is also url: browsers would be asked for certificates", "give it a host of its own, such as https://mtls.example")
	}
	if !unix {
		vs.Add("listen", c.Listen, "is open to every process of this machine, which could name any client certificate", "write unix:PATH where there is mtls_url")
	}
	return vs
}

// validateURL wants an origin: RFC 8414 §2 allows a path, but one issuer per
// host leaves no room for confusing two (RFC 9207).
func validateURL(key, value string) (vs conf.Violations) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Hostname() == "" || value != u.Scheme+"://"+u.Host {
		vs.Add(key, value, "is no issuer URL", "write https://HOST or https://HOST:PORT, without user, path, query or final slash")
		return vs
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(u.Hostname())) {
		vs.Add(key, value, "is not https", "use https; http is for loopback hosts only")
	}
	if value != strings.ToLower(value) {
		vs.Add(key, value, "has capital letters", "write it in lower case: issuers are compared exactly")
	}
	return vs
}

func isLoopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) validateLifetimes() (vs conf.Violations) {
	for _, field := range []struct {
		key        string
		value      time.Duration
		least, max time.Duration
	}{
		{"access_token_lifetime", c.AccessTokenLifetime, time.Second, maxAccessTokenLifetime},
		{"id_token_lifetime", c.IDTokenLifetime, time.Second, maxIDTokenLifetime},
		{"code_lifetime", c.CodeLifetime, time.Second, maxCodeLifetime},
		{"refresh_lifetime", c.RefreshLifetime, time.Second, maxRefreshLifetime},
		{"refresh_grace", c.RefreshGrace, 0, maxRefreshGrace},
		{"session_lifetime", c.SessionLifetime, time.Second, maxSessionLifetime},
		{"audit_retention", c.AuditRetention, 24 * time.Hour, 10 * maxRefreshLifetime},
		{"keys.publish_lead", c.Keys.PublishLead, 2 * time.Second, 7 * 24 * time.Hour},
		{"keys.rotate_every", c.Keys.RotateEvery, time.Second, 10 * maxRefreshLifetime},
	} {
		if field.value < field.least || field.value > field.max {
			vs.Add(field.key, field.value, "is out of bounds", fmt.Sprintf("choose %s to %s", field.least, field.max))
		}
	}
	if c.Keys.RotateEvery <= c.Keys.PublishLead {
		vs.Add("keys.rotate_every", c.Keys.RotateEvery, "is not longer than keys.publish_lead", "a key must be published before it signs")
	}
	return vs
}

func (c *Config) validateAPIs() (vs conf.Violations) {
	audiences, scopes := map[string]string{}, map[string]string{}
	for i, api := range c.APIs {
		key := fmt.Sprintf("apis[%d]", i)
		vs.AddUnder(key, c.validateTokens(api))
		u, err := url.Parse(api.Audience)
		switch {
		case err != nil || !u.IsAbs() || u.Fragment != "" || strings.ContainsAny(api.Audience, " #"):
			vs.Add(key+".audience", api.Audience, "is no absolute URI without a fragment", "write one such as https://orders.example (RFC 8707 §2)")
		case api.Audience == c.URL:
			vs.Add(key+".audience", api.Audience, "is the issuer's own URL, the audience of userinfo", "give the API a name of its own")
		case audiences[api.Audience] != "":
			vs.Add(key+".audience", api.Audience, "is also the audience of "+audiences[api.Audience], "give each API its own audience")
		}
		audiences[api.Audience] = key
		if len(api.Scopes) == 0 {
			vs.Add(key+".scopes", nil, "is empty", "declare at least one scope: without one no token can be for this API")
		}
		for j, scope := range api.Scopes {
			at := fmt.Sprintf("%s.scopes[%d]", key, j)
			vs = append(vs, validateScope(at, scope, scopes)...)
			scopes[scope] = at
		}
		for j, id := range api.Introspectors {
			if id == "" {
				vs.Add(fmt.Sprintf("%s.introspectors[%d]", key, j), nil, "is empty", "name a client's id")
			}
		}
	}
	return vs
}

// validateTokens judges what an API wants of its tokens.
func (c *Config) validateTokens(api API) (vs conf.Violations) {
	if api.Algorithm != "" {
		vs = append(vs, validateAlgorithm("algorithm", api.Algorithm)...)
	}
	if l := api.AccessTokenLifetime; l != 0 && (l < time.Second || l > c.AccessTokenLifetime) {
		vs.Add("access_token_lifetime", l, "is out of bounds", fmt.Sprintf("choose 1s to %s, which is issuer.access_token_lifetime", c.AccessTokenLifetime))
	}
	for _, name := range slices.Sorted(maps.Keys(api.Claims)) {
		key, source := "claims."+name, api.Claims[name]
		if !isClaimName(name) {
			vs.Add(key, name, "is no claim name", "use at most 64 letters, digits and . _ - : /")
		}
		if isReservedClaim(name) {
			vs.Add(key, name, "is a claim with a meaning of its own", "choose another name")
		}
		if claimSource(source) == nil {
			vs.Add(key, source, "is no source of claims", "use one of "+strings.Join(slices.Sorted(maps.Keys(claimSources)), ", ")+", or user.NAME, client.NAME or attribute.NAME for an attribute")
		}
	}
	return vs
}

// isClaimName keeps claims to what reads the same everywhere; URIs are among
// them (RFC 7519 §4.2).
func isClaimName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-:/", r))
	})
}

func validateAlgorithm(key, algorithm string) (vs conf.Violations) {
	if !slices.Contains(keys.Algorithms(), algorithm) {
		vs.Add(key, algorithm, "is no algorithm to sign with", "use one of "+strings.Join(keys.Algorithms(), ", "))
	}
	return vs
}

func validateScope(key, scope string, taken map[string]string) (vs conf.Violations) {
	switch {
	case !isScopeToken(scope):
		vs.Add(key, scope, "is no scope", `use printable ASCII without space, " and \ (RFC 6749 §3.3)`)
	case isOIDCScope(scope):
		vs.Add(key, scope, "is a scope of OpenID Connect", "choose another name")
	case taken[scope] != "":
		vs.Add(key, scope, "is also "+taken[scope], "give it a name of its own: a scope must tell which API it is for")
	}
	return vs
}

func (c *Config) validateRoles() (vs conf.Violations) {
	declared := map[string]bool{}
	for _, api := range c.APIs {
		for _, scope := range api.Scopes {
			declared[scope] = true
		}
	}
	names := make([]string, 0, len(c.Roles))
	for name := range c.Roles {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if !isScopeToken(name) || strings.Contains(name, ",") {
			vs.Add("roles", name, "is no role name", "use printable ASCII without space, comma, quote and backslash")
		}
		for i, scope := range c.Roles[name] {
			if !declared[scope] {
				vs.Add(fmt.Sprintf("roles.%s[%d]", name, i), scope, "is a scope of no API", "declare it under issuer.apis, or remove it")
			}
		}
	}
	return vs
}
