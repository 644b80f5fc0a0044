package issuer

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// userinfo tells a client about the person whose access token it holds (OpenID
// Connect Core §5.3). The token must be meant for it: audience issuer, scope
// openid.
func (s *server) userinfo(w http.ResponseWriter, r *http.Request) error {
	bearer, err := bearerOf(r)
	if err != nil {
		return err
	}
	claims, err := s.presented(r.Context(), bearer)
	switch {
	case isOurs(err):
		return err
	case err != nil:
		return badBearer(err)
	case !claims.HasAudience(s.config.URL) || claims.SubjectType() != "user":
		return badBearer(errors.New("the token is not for userinfo"))
	case !slices.Contains(claims.Scopes(), scopeOpenID):
		return &failure{
			code: codeInsufficientScope, description: "the token lacks the scope openid", status: http.StatusForbidden,
			challenge: `Bearer realm="gatehouse", error="insufficient_scope", scope="openid"`,
		}
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

// bearerOf is the token in the Authorization header, the only place it may
// stand (RFC 9700 §4.3.2).
func bearerOf(r *http.Request) (string, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		// Without credentials the challenge says no more than how to come
		// again (RFC 6750 §3.1).
		return "", &failure{code: codeInvalidRequest, description: "the access token is missing", status: http.StatusUnauthorized, challenge: `Bearer realm="gatehouse"`}
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", badBearer(errors.New("the Authorization header holds no single Bearer token"))
	}
	return token, nil
}

func badBearer(cause error) *failure {
	return &failure{
		code: codeInvalidToken, description: "the access token is invalid, expired or revoked", status: http.StatusUnauthorized,
		challenge: `Bearer realm="gatehouse", error="invalid_token"`, cause: cause,
	}
}
