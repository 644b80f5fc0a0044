package issuer

import (
	"fmt"
	"net/http"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
)

// token is the token endpoint (RFC 6749 §3.2).
func (s *server) token(w http.ResponseWriter, r *http.Request) error {
	f, err := bodyForm(r)
	if err != nil {
		return err
	}
	now := s.now()
	client, err := s.clientOf(r, f)
	if err != nil {
		return err
	}
	ctx, err := s.holding(w, r, client)
	if err != nil {
		return err
	}
	grant, err := s.grantOf(client, f)
	if err != nil {
		return err
	}
	var response *tokenResponse
	switch grant {
	case grantAuthorizationCode:
		response, err = s.redeem(ctx, client, f)
	case grantRefreshToken:
		response, err = s.refresh(ctx, client, f)
	case grantClientCredentials, grantJWTBearer:
		response, err = s.clientCredentials(ctx, now, client, f)
	case grantDeviceCode:
		response, err = s.fetch(ctx, client, f)
	case grantTokenExchange:
		response, err = s.exchange(ctx, now, client, f)
	}
	if err != nil {
		return err
	}
	s.audit.issued(ctx, grant, client.ID)
	response.TokenType = typeOf(holderOf(ctx))
	writeJSON(w, http.StatusOK, response)
	return nil
}

// grantOf is the grant type asked for, one that is advertised and that the
// client is registered for.
func (s *server) grantOf(client store.Client, f form) (string, error) {
	grant := f.get("grant_type")
	switch {
	case grant == "":
		return "", fail(codeInvalidRequest, "grant_type is missing")
	case !s.metadata.takes(grant):
		return "", fail(codeUnsupportedGrantType, "the grant type is not supported")
	}
	if !slices.Contains(client.GrantTypes, grant) {
		return "", fail(codeUnauthorizedClient, "the client may not use this grant type")
	}
	// A client without a secret would get tokens of its own for its mere name
	// (RFC 6749 §4.4).
	if slices.Contains([]string{grantClientCredentials, grantTokenExchange, grantJWTBearer}, grant) && client.Type != store.Confidential {
		return "", fail(codeUnauthorizedClient, "the client may not use this grant type")
	}
	return grant, nil
}

// askedScopes are the scopes of a request, each known and allowed to the
// client.
func (c *catalog) askedScopes(client store.Client, f form) ([]string, error) {
	scopes, ok := parseScope(f.get("scope"))
	if !ok {
		return nil, fail(codeInvalidScope, "scope does not follow its grammar")
	}
	for _, scope := range scopes {
		if !c.knows(scope) {
			return nil, fail(codeInvalidScope, "an unknown scope was asked for").because(fmt.Errorf("scope %q", scope))
		}
		if !c.mayAsk(client, scope) {
			return nil, mayNotAsk(scope)
		}
	}
	return scopes, nil
}

func mayNotAsk(scope string) error {
	description := "the client may not ask for one of the scopes"
	if scope == scopeOfflineAccess {
		description = "offline_access is for clients with the grant type refresh_token"
	}
	return fail(codeInvalidScope, description).because(fmt.Errorf("scope %q", scope))
}

// askedResources are the audiences that a request restricts its token to
// (RFC 8707 §2).
func (c *catalog) askedResources(f form) ([]string, error) {
	var resources []string
	for _, resource := range f["resource"] {
		if !c.isAPI(resource) {
			return nil, fail(codeInvalidTarget, "an unknown resource was asked for").because(fmt.Errorf("resource %.200q", resource))
		}
		if !slices.Contains(resources, resource) {
			resources = append(resources, resource)
		}
	}
	return resources, nil
}

// checkReach tells whether a token with these scopes would open something, and
// each of the resources asked for at least a little: one that silently did not
// would be found out at the API only.
func (c *catalog) checkReach(scopes, resources []string) error {
	reached := c.audiences(c.within(scopes, resources))
	for _, resource := range resources {
		if !slices.Contains(reached, resource) {
			return fail(codeInvalidTarget, "none of the scopes is one of the resource")
		}
	}
	if len(reached) == 0 {
		return fail(codeInvalidScope, "the scopes open nothing: ask for openid or for scopes of an API")
	}
	return nil
}
