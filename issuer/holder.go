package issuer

import (
	"context"
	"errors"
	"net/http"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// holderKey is where a request's context has what its sender proved to hold.
type holderKey struct{}

// holding is the request's context with what its client proved to hold: the
// key of a DPoP proof (RFC 9449), and the certificate of its TLS connection
// where its tokens are bound to that (RFC 8705 §3). It travels in the context,
// so that a token of whatever grant is bound to it, and none forgets to.
func (s *server) holding(w http.ResponseWriter, r *http.Request, client store.Client) (context.Context, error) {
	var held store.Holder
	proof, err := s.proofOf(w, r, "")
	if err == nil {
		err = s.spend(r, proof, !anybodys(client))
	}
	if err != nil {
		return nil, err
	}
	if proof != nil {
		held.KeyThumbprint = proof.Thumbprint()
	}
	if client.BindToKey && proof == nil {
		return nil, fail(codeInvalidRequest, "the client's tokens are bound to a key: a DPoP proof is missing")
	}
	if client.BindToCertificate {
		if held.CertificateThumbprint = s.certificateThumbprint(r); held.CertificateThumbprint == "" {
			return nil, fail(codeInvalidRequest, "the client's tokens are bound to its certificate: the TLS connection has none")
		}
	}
	return withHolder(r.Context(), held), nil
}

func withHolder(ctx context.Context, held store.Holder) context.Context {
	return context.WithValue(ctx, holderKey{}, held)
}

// holderOf is what the sender of a request proved to hold; zero: nothing.
func holderOf(ctx context.Context) store.Holder {
	held, _ := ctx.Value(holderKey{}).(store.Holder)
	return held
}

// confirmation is cnf (RFC 7800 §3.1); nil: the token is bound to nothing.
type confirmation struct {
	KeyThumbprint         string `json:"jkt,omitempty"`
	CertificateThumbprint string `json:"x5t#S256,omitempty"`
}

func confirmationOf(held store.Holder) *confirmation {
	if held == (store.Holder{}) {
		return nil
	}
	return &confirmation{held.KeyThumbprint, held.CertificateThumbprint}
}

// errNotHeld is a token that is bound to what its presenter did not prove to
// hold.
var errNotHeld = errors.New("the token is bound to a key that was not proven")

// provesHolding tells whether a request's sender proved to hold all that
// something is bound to.
func provesHolding(ctx context.Context, bound store.Holder) bool {
	held := holderOf(ctx)
	return (bound.KeyThumbprint == "" || bound.KeyThumbprint == held.KeyThumbprint) &&
		(bound.CertificateThumbprint == "" || bound.CertificateThumbprint == held.CertificateThumbprint)
}

func boundTo(claims *token.Claims) store.Holder {
	c := claims.Confirmation()
	return store.Holder{KeyThumbprint: c.KeyThumbprint, CertificateThumbprint: c.CertificateThumbprint}
}

// refreshHolder is what the refresh tokens of a grant are bound to. Those of
// confidential clients are bound to the client's own proof anyway, so that it
// may change its keys (RFC 9449 §5, RFC 8705 §4).
func refreshHolder(ctx context.Context, client store.Client) store.Holder {
	if client.Type == store.Confidential {
		return store.Holder{}
	}
	return holderOf(ctx)
}

// checkCodeHolder holds a redemption against the key that the authorization
// request named (RFC 9449 §10).
func checkCodeHolder(ctx context.Context, code store.Code) error {
	if !provesHolding(ctx, store.Holder{KeyThumbprint: code.KeyThumbprint}) {
		return fail(codeInvalidGrant, "the code is bound to another key, or to one that was not proven")
	}
	return nil
}

func checkRefreshHolder(ctx context.Context, grant store.Grant) error {
	if !provesHolding(ctx, grant.Holder) {
		return fail(codeInvalidGrant, "the refresh token is bound to another key, or to one that was not proven")
	}
	return nil
}
