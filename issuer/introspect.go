package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// introspect is the introspection endpoint (RFC 7662), for confidential
// clients. A client learns of its own tokens, and, where the configuration
// names it as an API (apis[].introspectors), of access tokens for that API. Of
// every other token it learns what it learns of no token at all: not active
// (§4).
func (s *server) introspect(w http.ResponseWriter, r *http.Request) error {
	f, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticate(r.Context(), r, f)
	if err != nil {
		return err
	}
	if client.Type != store.Confidential {
		return badClient(errors.New("only confidential clients may introspect"))
	}
	presented := f.get("token")
	if presented == "" {
		return fail(codeInvalidRequest, "token is missing")
	}
	answer, err := s.describeToken(r.Context(), client, presented)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *server) describeToken(ctx context.Context, client store.Client, presented string) (*introspection, error) {
	refresh, grant, err := s.store.RefreshToken(ctx, store.HashOf(presented))
	switch {
	// A replaced one is spent: to use it again would revoke its family.
	case err == nil && grant.ClientID == client.ID && refresh.UsedAt.IsZero():
		return introspectedGrant(s.config.URL, grant), nil
	case err == nil:
		return &introspection{}, nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("looking up a refresh token: %w", err)
	}
	claims, err := s.living(ctx, presented)
	switch {
	case isOurs(err):
		return nil, err
	case err != nil || !s.catalog.mayIntrospect(client, claims):
		return &introspection{}, nil
	}
	return introspectedClaims(claims), nil
}

func (c *catalog) mayIntrospect(client store.Client, claims *token.Claims) bool {
	return claims.ClientID() == client.ID || slices.ContainsFunc(claims.Audience(), func(audience string) bool {
		return slices.Contains(c.apis[audience].Introspectors, client.ID)
	})
}
