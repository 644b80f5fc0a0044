package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// assertionType is that of a JWT that authenticates a client (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionSkew is how far a client's clock may be off.
const assertionSkew = 30 * time.Second

// assertionOf reads a client assertion from a request's parameters.
func assertionOf(f form) (c presentation, err error) {
	if f.get("client_assertion_type") != assertionType {
		return c, errors.New("client_assertion_type is not that of a JWT")
	}
	c.method = methodPrivateKeyJWT
	if c.assertion, err = token.ParseClientAssertion(f.get("client_assertion")); err != nil {
		return c, err
	}
	c.id = c.assertion.ClientID()
	return c, nil
}

// checkAssertion tells whether an assertion proves a client, and takes it: it
// counts once (RFC 7523 §3 no. 7).
func (s *server) checkAssertion(ctx context.Context, client store.Client, a *token.ClientAssertion) error {
	keys, err := s.clientKeys.of(ctx, client.Proof, a.KeyID())
	if err != nil {
		return badClient(fmt.Errorf("the keys of client %q: %w", client.ID, err))
	}
	now := s.now()
	if err := a.Verify(token.ClientAssertionRules{
		ClientID: client.ID, Audience: s.config.URL, Algorithms: algorithmsOf(client.Proof), Keys: keys, Skew: assertionSkew,
	}, now); err != nil {
		return badClient(fmt.Errorf("the assertion of client %q: %w", client.ID, err))
	}
	if wait := s.registration.assert(client, now); wait > 0 {
		return &failure{code: codeTemporarilyUnavailable, description: "the client authenticates too often; try again later", status: http.StatusTooManyRequests, retryAfter: wait}
	}
	used := store.HashOf("client assertion\x00" + client.ID + "\x00" + a.ID())
	switch err := s.store.UseOnce(ctx, used, a.ExpiresAt().Add(assertionSkew)); {
	case errors.Is(err, store.ErrConsumed):
		s.audit.replayed(ctx, "client assertion", client.ID, err)
		return badClient(fmt.Errorf("the assertion of client %q was used before", client.ID))
	case err != nil:
		return fmt.Errorf("noting the use of a client assertion: %w", err)
	}
	return nil
}

// algorithmsOf are those that a client's assertions may be signed with.
func algorithmsOf(p store.ClientProof) []token.Algorithm {
	algorithms := make([]token.Algorithm, len(p.Algorithms))
	for i, name := range p.Algorithms {
		algorithms[i] = token.Algorithm(name)
	}
	return algorithms
}
