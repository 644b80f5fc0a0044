package issuer

import (
	"cmp"
	"context"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
)

// refresh exchanges a refresh token for new tokens (RFC 6749 §6). Every use
// replaces it; a second use outside the grace time revokes the whole family
// (RFC 9700 §4.14.2).
func (s *server) refresh(ctx context.Context, client store.Client, f form) (*tokenResponse, error) {
	token := f.get("refresh_token")
	if token == "" {
		return nil, fail(codeInvalidRequest, "refresh_token is missing")
	}
	scopes, ok := parseScope(f.get("scope"))
	if !ok {
		return nil, fail(codeInvalidScope, "scope does not follow its grammar")
	}
	resources, err := s.catalog.askedResources(f)
	if err != nil {
		return nil, err
	}
	successor := store.Successor(s.refreshKey, token)
	issuance, err := s.store.RotateRefresh(ctx, store.Rotation{
		Token:     store.HashOf(token),
		Successor: store.HashOf(successor),
		ClientID:  client.ID,
		Grace:     s.config.RefreshGrace,
		Check: func(grant store.Grant) error {
			return cmp.Or(checkRefreshHolder(ctx, grant), s.catalog.checkNarrowing(grant, scopes, resources))
		},
	})
	if err != nil {
		return nil, s.spent(ctx, "refresh token", client, err)
	}
	return s.answer(ctx, client, issuance, resources, personTokens{refresh: successor}, scopes)
}

// checkNarrowing lets a refresh ask for less than was granted, never for more
// (RFC 6749 §6, RFC 8707 §2.2).
func (c *catalog) checkNarrowing(grant store.Grant, scopes, resources []string) error {
	for _, scope := range scopes {
		if !slices.Contains(grant.Scopes, scope) {
			return fail(codeInvalidScope, "a scope was not granted")
		}
	}
	if len(scopes) == 0 {
		scopes = grant.Scopes
	}
	return c.checkResources(scopes, grant.Audience, resources)
}
