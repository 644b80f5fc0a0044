package issuer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/issuer/keys"
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
	w.Header().Add("Vary", "Accept")
	if accepts(r, typeIntrospection) {
		return s.writeIntrospection(r.Context(), w, client, answer)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// typeIntrospection is the media type of an answer that is a JWT; its typ is
// the same without "application/" (RFC 9701 §4 and §5).
const typeIntrospection = "application/token-introspection+jwt"

// accepts tells whether a request asks for exactly this media type (RFC 9110
// §12.5.1). A wildcard is content with JSON.
func accepts(r *http.Request, media string) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header["Accept"], ","), ",") {
		got, parameters, err := mime.ParseMediaType(part)
		weight, fault := strconv.ParseFloat(cmp.Or(parameters["q"], "1"), 64)
		if err == nil && fault == nil && got == media && weight > 0 {
			return true
		}
	}
	return false
}

// writeIntrospection answers with a JWT for the one who asked (RFC 9701 §5),
// signed with what it is registered for (§6). It has neither sub nor exp, so that it cannot pass for an access token.
func (s *server) writeIntrospection(ctx context.Context, w http.ResponseWriter, client store.Client, answer *introspection) error {
	claims, err := json.Marshal(map[string]any{
		"iss": s.config.URL, "aud": client.ID, "iat": s.now().Unix(), "token_introspection": answer,
	})
	if err != nil {
		return fmt.Errorf("encoding an introspection: %w", err)
	}
	signed, err := s.keys.Sign(ctx, cmp.Or(client.IntrospectionAlgorithm, keys.ES256), strings.TrimPrefix(typeIntrospection, "application/"), claims)
	if err != nil {
		return fmt.Errorf("signing an introspection: %w", err)
	}
	w.Header().Set("Content-Type", typeIntrospection)
	w.WriteHeader(http.StatusOK)
	w.Write([]byte(signed))
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
