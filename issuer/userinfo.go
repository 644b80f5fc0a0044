package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// userinfo tells a client about the person whose access token it holds (OpenID
// Connect Core §5.3). The token must be meant for it: audience issuer, scope
// openid.
func (s *server) userinfo(w http.ResponseWriter, r *http.Request) error {
	ctx, compact, proof, err := s.credentialOf(w, r)
	if err != nil {
		return err
	}
	claims, err := s.presented(ctx, compact)
	switch {
	case isOurs(err):
		return err
	case err != nil:
		return badBearer(err)
	case holderOf(ctx).KeyThumbprint != "" && boundTo(claims).KeyThumbprint == "":
		return badBearer(errors.New("the token is bound to no key, yet came with the scheme DPoP"))
	case !claims.HasAudience(s.config.URL) || claims.SubjectType() != "user":
		return badBearer(errors.New("the token is not for userinfo"))
	case !slices.Contains(claims.Scopes(), scopeOpenID):
		return &failure{
			code: codeInsufficientScope, description: "the token lacks the scope openid", status: http.StatusForbidden,
			challenge: `Bearer realm="gatehouse", error="insufficient_scope", scope="openid"`,
		}
	}
	if err := s.spend(r, proof, true); err != nil {
		return unproven(err)
	}
	user, err := s.store.User(r.Context(), claims.Subject())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return badBearer(err)
	case err != nil:
		return fmt.Errorf("reading user: %w", err)
	}
	info := userInfo(user, func(scope string) bool { return slices.Contains(claims.Scopes(), scope) })
	writeJSON(w, http.StatusOK, info)
	return nil
}

// credentialOf is the token in the Authorization header, the only place it may
// stand (RFC 9700 §4.3.2), and the request's context with what was proven: the
// key of a DPoP proof, which has to come with the scheme DPoP and with no other
// (RFC 9449 §7.1), and the connection's certificate. The proof is still to be
// spent, once the token is known to be one of its key: whoever has none could
// fill what remembers proofs.
func (s *server) credentialOf(w http.ResponseWriter, r *http.Request) (context.Context, string, *token.Proof, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		// Without credentials the challenge says no more than how to come
		// again (RFC 6750 §3.1).
		return nil, "", nil, &failure{code: codeInvalidRequest, description: "the access token is missing", status: http.StatusUnauthorized, challenge: `Bearer realm="gatehouse"`}
	}
	scheme, compact, _ := strings.Cut(headers[0], " ")
	held := store.Holder{CertificateThumbprint: s.certificateThumbprint(r)}
	switch {
	case len(headers) > 1 || compact == "":
	case strings.EqualFold(scheme, "Bearer"):
		return withHolder(r.Context(), held), compact, nil, nil
	case strings.EqualFold(scheme, "DPoP"):
		proof, err := s.proofOf(w, r, compact)
		if err != nil || proof == nil {
			return nil, "", nil, unproven(err)
		}
		held.KeyThumbprint = proof.Thumbprint()
		return withHolder(r.Context(), held), compact, proof, nil
	}
	return nil, "", nil, badBearer(errors.New("the Authorization header holds no single Bearer or DPoP token"))
}

// unproven is a request without a good DPoP proof, as a resource answers it
// (RFC 9449 §7.1, §9).
func unproven(err error) error {
	if err == nil {
		err = badProof(errors.New("the DPoP header is missing"))
	}
	f := failureOf(err)
	if f.code == codeServerError || f.code == codeTemporarilyUnavailable {
		return err
	}
	f.status, f.challenge = http.StatusUnauthorized, proofChallenge(f.code)
	return f
}

func badBearer(cause error) *failure {
	return &failure{
		code: codeInvalidToken, description: "the access token is invalid, expired or revoked", status: http.StatusUnauthorized,
		challenge: `Bearer realm="gatehouse", error="invalid_token"`, cause: cause,
	}
}
