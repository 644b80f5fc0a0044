package issuer

import (
	"context"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// errDead is a token that verifies but is over.
var errDead = errors.New("the token is expired or revoked, or what it hangs on is")

// presented are the claims of an access token that somebody presents to use it:
// it is alive, and what it is bound to was proven in the request.
func (s *server) presented(ctx context.Context, compact string) (*token.Claims, error) {
	claims, err := s.living(ctx, compact)
	if err == nil && !provesHolding(ctx, boundTo(claims)) {
		return nil, errNotHeld
	}
	return claims, err
}

// living are the claims of an access token that is talked about, not used:
// verified with the gateway's own rules (type, signature, issuer, times) and
// not revoked. ID tokens and foreign tokens are refused.
func (s *server) living(ctx context.Context, compact string) (*token.Claims, error) {
	claims, err := s.unrevoked(ctx, compact)
	// Our own clock wrote the times: no skew excuses an expired token here.
	if err == nil && !s.now().Before(claims.ExpiresAt()) {
		return nil, errDead
	}
	return claims, err
}

// unrevoked are the claims of an access token that some gateway may still take,
// up to the skew after its end.
func (s *server) unrevoked(ctx context.Context, compact string) (*token.Claims, error) {
	claims, err := s.tokens.Verify(ctx, compact)
	if err != nil {
		return nil, fmt.Errorf("verifying a presented token: %w", err)
	}
	alive, err := s.store.Alive(ctx, refsOf(claims))
	if err != nil {
		return nil, &lookupError{err}
	}
	if !alive {
		return nil, errDead
	}
	return claims, nil
}

func refsOf(c *token.Claims) store.TokenRefs {
	refs := store.TokenRefs{
		ID: c.ID(), SessionID: c.SessionID(), GrantID: c.GrantID(), KeyID: c.KeyID(),
		ClientID: c.ClientID(), IssuedAt: c.IssuedAt(),
	}
	if c.SubjectType() == "user" {
		refs.UserID = c.Subject()
	}
	for _, a := range c.Ancestors() {
		refs.Ancestors = append(refs.Ancestors, store.TokenRefs{ID: a.ID, ClientID: a.ClientID, KeyID: a.KeyID, IssuedAt: a.IssuedAt})
	}
	return refs
}

// lookupError is trouble of ours, not the token's: the answer is 500, never
// "not active".
type lookupError struct{ err error }

func (e *lookupError) Error() string { return "looking up a token: " + e.err.Error() }
func (e *lookupError) Unwrap() error { return e.err }

func isOurs(err error) bool {
	var ours *lookupError
	return errors.As(err, &ours)
}
