package issuer

import (
	"context"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// clientCredentials issues a token to a client for itself (RFC 6749 §4.4). It
// writes nothing: the client's not-before is all that can end such a token
// before its time, besides the revocation of the token itself. now was taken
// before the client was read, so that a revocation in between covers the token.
func (s *server) clientCredentials(ctx context.Context, now time.Time, client store.Client, f form) (*tokenResponse, error) {
	scopes, err := s.catalog.clientScopes(client, f)
	if err != nil {
		return nil, err
	}
	issuedAt := store.IssuedAt(now, client.NotBefore)
	signed, expiresAt, err := s.mintAccess(ctx, accessToken{
		subject: client.ID, client: client,
		scopes: scopes, audience: s.catalog.audiences(scopes),
		issuedAt: issuedAt,
	})
	if err != nil {
		return nil, err
	}
	return bearerResponse(signed, expiresAt.Sub(issuedAt), scopes), nil
}

// clientScopes are what a client gets for itself: what it asks for, or
// everything it is registered for.
func (c *catalog) clientScopes(client store.Client, f form) ([]string, error) {
	scopes, err := c.askedScopes(client, f)
	if err != nil {
		return nil, err
	}
	resources, err := c.askedResources(f)
	if err != nil {
		return nil, err
	}
	for _, scope := range scopes {
		if isOIDCScope(scope) {
			return nil, fail(codeInvalidScope, "scopes of OpenID Connect are for people only")
		}
	}
	if len(scopes) == 0 {
		scopes = keep(c.scopes, func(scope string) bool { return c.mayAsk(client, scope) })
	}
	if err := c.checkReach(scopes, resources); err != nil {
		return nil, err
	}
	scopes = c.within(scopes, resources)
	_, err = c.rules(c.audiences(scopes))
	return scopes, err
}
