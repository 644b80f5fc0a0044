package issuer

import (
	"maps"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// Scopes of OpenID Connect (Core §5.4, §11). They are for people only, and no
// API owns them.
const (
	scopeOpenID        = "openid"
	scopeProfile       = "profile"
	scopeEmail         = "email"
	scopeOfflineAccess = "offline_access"
)

var oidcScopes = []string{scopeOpenID, scopeProfile, scopeEmail, scopeOfflineAccess}

func isOIDCScope(scope string) bool { return slices.Contains(oidcScopes, scope) }

// maxScope bounds one scope-token, in bytes.
const maxScope = 128

func isScopeToken(s string) bool { return len(s) <= maxScope && token.IsScope(s) }

// parseScope splits a scope parameter; ok is false where it does not follow the
// grammar of RFC 6749 §3.3. Repeated scopes count once.
func parseScope(parameter string) (scopes []string, ok bool) {
	if parameter == "" {
		return nil, true
	}
	for _, scope := range strings.Split(parameter, " ") {
		if !isScopeToken(scope) {
			return nil, false
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes, true
}

// catalog knows the APIs, their scopes and the roles. It never changes.
type catalog struct {
	// issuer is the audience of userinfo.
	issuer string
	// lifetime is the longest life of any access token.
	lifetime time.Duration
	// apis are the APIs by audience.
	apis map[string]API
	// owner is the audience of the API that owns a scope.
	owner map[string]string
	roles map[string][]string
	// scopes are all scopes of APIs, in the order of the configuration.
	scopes []string
}

func newCatalog(c Config) *catalog {
	cat := &catalog{issuer: c.URL, lifetime: c.AccessTokenLifetime, apis: map[string]API{}, owner: map[string]string{}, roles: c.Roles}
	for _, api := range c.APIs {
		cat.apis[api.Audience] = api
		for _, scope := range api.Scopes {
			cat.owner[scope] = api.Audience
			cat.scopes = append(cat.scopes, scope)
		}
	}
	return cat
}

func (c *catalog) knows(scope string) bool { return isOIDCScope(scope) || c.owner[scope] != "" }

// isAPI tells whether an audience is an API's.
func (c *catalog) isAPI(audience string) bool {
	_, known := c.apis[audience]
	return known
}

// mayAsk tells whether a client may ask for a scope. Those of OpenID Connect
// need no registration: they follow from the grants that the client may use.
func (c *catalog) mayAsk(client store.Client, scope string) bool {
	switch scope {
	case scopeOpenID, scopeProfile, scopeEmail:
		return slices.Contains(client.GrantTypes, grantAuthorizationCode) || slices.Contains(client.GrantTypes, grantDeviceCode)
	case scopeOfflineAccess:
		return slices.Contains(client.GrantTypes, grantRefreshToken)
	default:
		return c.owner[scope] != "" && slices.Contains(client.Scopes, scope)
	}
}

// ofPerson are the scopes that a person with these roles can give: those of
// the roles, and those of OpenID Connect.
func (c *catalog) ofPerson(scopes, roles []string) []string {
	return keep(scopes, func(scope string) bool {
		return isOIDCScope(scope) || slices.ContainsFunc(roles, func(role string) bool {
			return slices.Contains(c.roles[role], scope)
		})
	})
}

// within are the scopes that have meaning at these audiences (RFC 8707 §2);
// no audiences restrict nothing.
func (c *catalog) within(scopes, audiences []string) []string {
	if len(audiences) == 0 {
		return scopes
	}
	return keep(scopes, func(scope string) bool {
		return isOIDCScope(scope) || slices.Contains(audiences, c.owner[scope])
	})
}

// audiences are who a token with these scopes is for: the APIs that own them,
// and the issuer itself where they open userinfo.
func (c *catalog) audiences(scopes []string) (audiences []string) {
	for _, scope := range scopes {
		owner := c.owner[scope]
		if scope == scopeOpenID {
			owner = c.issuer
		}
		if owner != "" && !slices.Contains(audiences, owner) {
			audiences = append(audiences, owner)
		}
	}
	slices.Sort(audiences)
	return audiences
}

func keep(list []string, good func(string) bool) []string {
	kept := make([]string, 0, len(list))
	for _, element := range list {
		if good(element) {
			kept = append(kept, element)
		}
	}
	return kept
}

func (c *catalog) roleNames() []string { return slices.Sorted(maps.Keys(c.roles)) }
