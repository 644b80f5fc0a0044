package issuer

import (
	"fmt"
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/token"
)

// TokenExchange lets one client exchange tokens that are for one audience for
// tokens that are for another (RFC 8693). What no entry names is denied.
type TokenExchange struct {
	// The id of the confidential client that may exchange; its grant types must
	// have urn:ietf:params:oauth:grant-type:token-exchange.
	Client string `yaml:"client"`
	// The audience that the presented token must be for, one of `apis`: usually
	// the client itself, as an API.
	SubjectAudience string `yaml:"subject_audience"`
	// The audience of the new token, one of `apis`.
	Target string `yaml:"target"`
	// How the client may act: delegation (the new token names the client as the
	// actor) or impersonation (it does not). Where both are allowed, a request
	// with an actor_token is for delegation. Danger: impersonation leaves no
	// trace of the client but client_id.
	Allow []string `yaml:"allow"`
	// The scopes of the target that a scope of the presented token opens, by
	// that scope. A scope of the target that the presented token has itself is
	// kept without. Default: none.
	Scopes map[string][]string `yaml:"scopes"`
}

// The ways to act for somebody (RFC 8693 §1.1).
const (
	delegation    = "delegation"
	impersonation = "impersonation"
)

// reach are the scopes of the target that a token with these scopes opens.
func (e TokenExchange) reach(c *catalog, scopes []string) (reached []string) {
	add := func(scope string) {
		if c.owner[scope] == e.Target && !slices.Contains(reached, scope) {
			reached = append(reached, scope)
		}
	}
	for _, scope := range scopes {
		add(scope)
		for _, opened := range e.Scopes[scope] {
			add(opened)
		}
	}
	return reached
}

// exchangeFor is the entry that lets a client exchange a token for a target.
func (c *Config) exchangeFor(clientID, target string, subject *token.Claims) (TokenExchange, bool) {
	at := slices.IndexFunc(c.TokenExchange, func(e TokenExchange) bool {
		return e.Client == clientID && e.Target == target && subject.HasAudience(e.SubjectAudience)
	})
	if at < 0 {
		return TokenExchange{}, false
	}
	return c.TokenExchange[at], true
}

func (c *Config) validateExchanges() (vs conf.Violations) {
	owner := newCatalog(*c).owner
	seen := map[[3]string]int{}
	for i, e := range c.TokenExchange {
		key := fmt.Sprintf("token_exchange[%d]", i)
		if e.Client == "" {
			vs.Add(key+".client", nil, "is missing", "name the client that may exchange")
		}
		vs = append(vs, c.validateAudience(key+".subject_audience", e.SubjectAudience)...)
		vs = append(vs, c.validateAudience(key+".target", e.Target)...)
		vs = append(vs, validateModes(key+".allow", e.Allow)...)
		id := [3]string{e.Client, e.SubjectAudience, e.Target}
		if other, twice := seen[id]; twice {
			vs.Add(key, nil, fmt.Sprintf("has the client, subject_audience and target of token_exchange[%d]", other), "make one of them")
		}
		seen[id] = i
		for _, scope := range slices.Sorted(maps.Keys(e.Scopes)) {
			at := key + ".scopes." + scope
			if owner[scope] == "" {
				vs.Add(at, scope, "is a scope of no API", "declare it under issuer.apis, or remove it")
			}
			for j, opened := range e.Scopes[scope] {
				if owner[opened] != e.Target {
					vs.Add(fmt.Sprintf("%s[%d]", at, j), opened, "is no scope of the target", "use one that issuer.apis declares for it")
				}
			}
		}
	}
	return vs
}

func (c *Config) validateAudience(key, audience string) (vs conf.Violations) {
	if !slices.ContainsFunc(c.APIs, func(api API) bool { return api.Audience == audience }) {
		vs.Add(key, audience, "is the audience of no API", "use one of issuer.apis")
	}
	return vs
}

func validateModes(key string, modes []string) (vs conf.Violations) {
	if len(modes) == 0 {
		vs.Add(key, nil, "is empty", "write delegation, impersonation or both")
	}
	for i, mode := range modes {
		if mode != delegation && mode != impersonation {
			vs.Add(fmt.Sprintf("%s[%d]", key, i), mode, "is no way to act for somebody", "write delegation or impersonation")
		}
	}
	return vs
}
