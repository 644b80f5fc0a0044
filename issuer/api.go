package issuer

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
)

// tokenRules are how access tokens for some audiences are made.
type tokenRules struct {
	// algorithm signs them.
	algorithm string
	// lifetime is the longest that any of the APIs allows.
	lifetime time.Duration
	// claims are what the APIs want to know beside, by claim, as the name of
	// its source.
	claims map[string]string
}

// rules are what all the APIs of a token agree on: their shortest lifetime, and
// the claims that each of them asks for, for none is to learn through another
// what it did not ask for. APIs of different algorithms have no token in
// common: one of them could not verify it (RFC 8725 §3.1).
func (c *catalog) rules(audiences []string) (r tokenRules, err error) {
	r.lifetime = c.lifetime
	first := true
	for _, audience := range audiences {
		api, ok := c.apis[audience]
		if !ok { // userinfo, which takes whatever the issuer signs
			continue
		}
		algorithm := cmp.Or(api.Algorithm, keys.ES256)
		if !first && algorithm != r.algorithm {
			return r, fail(codeInvalidTarget, "the resources take tokens of different algorithms: ask for one at a time")
		}
		r.lifetime = min(r.lifetime, cmp.Or(api.AccessTokenLifetime, c.lifetime))
		r.claims = agreed(r.claims, api.Claims, first)
		r.algorithm, first = algorithm, false
	}
	r.algorithm = cmp.Or(r.algorithm, keys.ES256)
	return r, nil
}

// agreed are the claims that both sides want from the same source.
func agreed(before, claims map[string]string, first bool) map[string]string {
	both := map[string]string{}
	for name, source := range claims {
		if first || before[name] == source {
			both[name] = source
		}
	}
	return both
}

// claimSources are what claims can be made of. A source gives nil where there
// is nothing to say, and the claim is left out.
var claimSources = map[string]func(t accessToken) any{
	"email":       ofUser(func(u store.User) any { return text(u.Email) }),
	"name":        ofUser(func(u store.User) any { return text(u.Name) }),
	"login":       ofUser(func(u store.User) any { return text(string(u.Login)) }),
	"groups":      ofUser(func(u store.User) any { return list(u.GroupNames) }),
	"roles":       ofUser(func(u store.User) any { return list(u.AllRoles) }),
	"client_name": func(t accessToken) any { return text(t.client.Name) },
}

// attributeSources are those of an attribute, by what stands before its name:
// the person's, the client's, or the person's and else the client's.
var attributeSources = map[string]func(t accessToken, name string) any{
	"user":   userAttribute,
	"client": clientAttribute,
	"attribute": func(t accessToken, name string) any {
		return cmp.Or(userAttribute(t, name), clientAttribute(t, name))
	},
}

func userAttribute(t accessToken, name string) any {
	if t.person == nil {
		return nil
	}
	return text(t.person.user.Attributes[name])
}

func clientAttribute(t accessToken, name string) any { return text(t.client.Attributes[name]) }

// claimSource is the source of a name, such as email or user.plan; nil: there is
// none.
func claimSource(source string) func(accessToken) any {
	kind, name, found := strings.Cut(source, ".")
	if !found {
		return claimSources[source]
	}
	of := attributeSources[kind]
	if of == nil || name == "" {
		return nil
	}
	return func(t accessToken) any { return of(t, name) }
}

// ofUser is a source that only people's tokens have.
func ofUser(source func(store.User) any) func(accessToken) any {
	return func(t accessToken) any {
		if t.person == nil {
			return nil
		}
		return source(t.person.user)
	}
}

func text(value string) any {
	if value == "" {
		return nil
	}
	return value
}

func list(values []string) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

// mapped are the claims of a token that its APIs ask for.
func (r tokenRules) mapped(t accessToken) map[string]any {
	claims := map[string]any{}
	for name, source := range r.claims {
		if value := claimSource(source)(t); value != nil {
			claims[name] = value
		}
	}
	return claims
}

// reservedClaims are those that mean something to whoever decides on a token:
// RFC 7519 §4.1, RFC 9068 §2.2, RFC 7800, RFC 8693 §4, RFC 9396, RFC 9470,
// OpenID Connect Core §2, and our own.
var reservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf", "act", "may_act", "authorization_details",
	"auth_time", "acr", "amr", "azp", "nonce", "at_hash", "c_hash", "sid", "roles", "entitlements",
	"grant_id", "subject_type", "derived_from", "token_introspection", "active", "events",
}

func isReservedClaim(name string) bool { return slices.Contains(reservedClaims, name) }

// algorithms are those that keys are kept for: the default, those that the
// configuration asks for, and those of the APIs.
func (c *Config) algorithms() []string {
	all := slices.Concat([]string{keys.ES256}, c.Keys.Algorithms)
	for _, api := range c.APIs {
		all = append(all, cmp.Or(api.Algorithm, keys.ES256))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// AccessTokenAlgorithms are those that access tokens are signed with: what
// whoever verifies them has to accept, and no more.
func (c *Config) AccessTokenAlgorithms() []string {
	all := []string{keys.ES256} // tokens for userinfo alone
	for _, api := range c.APIs {
		all = append(all, cmp.Or(api.Algorithm, keys.ES256))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
