package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"gatehouse.dev/gatehouse/issuer/store"
)

// revoke is the revocation endpoint (RFC 7009). It answers 200 whether or not
// there was something to revoke, and a client can revoke only what is its own.
// token_type_hint is not needed: a token's form tells what it is.
func (s *server) revoke(w http.ResponseWriter, r *http.Request) error {
	f, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticate(r.Context(), r, f)
	if err != nil {
		return err
	}
	token := f.get("token")
	if token == "" {
		return fail(codeInvalidRequest, "token is missing")
	}
	if err := s.revokeToken(r.Context(), client, token); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) revokeToken(ctx context.Context, client store.Client, token string) error {
	_, grant, err := s.store.RefreshToken(ctx, store.HashOf(token))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s.revokeAccess(ctx, client, token)
	case err != nil:
		return fmt.Errorf("looking up a refresh token: %w", err)
	case grant.ClientID != client.ID:
		return nil
	}
	// The access tokens of a revoked refresh token go with it (RFC 7009 §2.1).
	ctx = asking(ctx, client)
	if err := s.store.RevokeGrant(ctx, grant.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("revoking a grant: %w", err)
	}
	s.audit.revoked(ctx, "grant", grant.ID, client.ID)
	return nil
}

func (s *server) revokeAccess(ctx context.Context, client store.Client, token string) error {
	claims, err := s.unrevoked(ctx, token)
	switch {
	case isOurs(err):
		return err
	case err != nil, claims.ClientID() != client.ID:
		return nil
	}
	ctx = asking(ctx, client)
	if err := s.store.RevokeToken(ctx, claims.ID(), claims.ExpiresAt().Add(skew)); err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	s.audit.revoked(ctx, "token", claims.ID(), client.ID)
	return nil
}
