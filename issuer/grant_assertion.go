package issuer

import (
	"errors"
	"fmt"
	"net/http"

	"gatehouse.dev/gatehouse/issuer/store"
)

// clientOf is the client that a token request comes from: it proves itself, or
// another issuer vouches for it.
func (s *server) clientOf(r *http.Request, f form) (store.Client, error) {
	switch {
	case f.get("grant_type") != grantJWTBearer:
		return s.authenticate(r.Context(), r, f)
	case len(s.vouchers) == 0:
		return store.Client{}, fail(codeUnsupportedGrantType, "the grant type is not supported")
	default:
		return s.vouchedFor(r, f)
	}
}

// vouchedFor is the client that an assertion of a trusted issuer stands for
// (RFC 7523 §2.1). The assertion is its authentication, and another beside it
// is refused (RFC 6749 §2.3). What is wrong with it is invalid_grant, whatever
// it is (RFC 7523 §3.1).
func (s *server) vouchedFor(r *http.Request, f form) (client store.Client, err error) {
	switch {
	case len(r.Header["Authorization"]) > 0, f.has("client_secret"), f.has("client_assertion"), f.has("client_assertion_type"):
		return client, fail(codeInvalidRequest, "the client authenticates in more than one way")
	case !f.has("assertion"):
		return client, fail(codeInvalidRequest, "assertion is missing")
	}
	now := s.now()
	assertion, id, err := s.vouchers.verify(f.get("assertion"), now)
	if err != nil {
		return client, badAssertion(err)
	}
	if f.has("client_id") && f.get("client_id") != id {
		return client, badAssertion(errors.New("client_id is another client"))
	}
	client, err = s.store.Client(r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return client, badAssertion(err)
	case err != nil:
		return client, fmt.Errorf("reading client: %w", err)
	case client.Disabled:
		return client, badAssertion(fmt.Errorf("client %q is disabled", id))
	}
	used := store.HashOf("grant assertion\x00" + assertion.Issuer() + "\x00" + assertion.ID())
	err = s.store.UseOnce(r.Context(), used, assertion.ExpiresAt().Add(2*vouchingSkew))
	switch {
	case errors.Is(err, store.ErrConsumed):
		s.audit.replayed(r.Context(), "assertion", client.ID, err)
		return client, badAssertion(err)
	case err != nil:
		return client, fmt.Errorf("noting an assertion: %w", err)
	}
	callerOf(r.Context()).client, callerOf(r.Context()).proven = client.ID, !anybodys(client)
	return client, nil
}

func badAssertion(cause error) error {
	return fail(codeInvalidGrant, "the assertion is invalid, expired or used already, or vouches for no client").because(cause)
}
