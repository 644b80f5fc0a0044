package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// maxHint bounds an ID token that comes back, in bytes.
const maxHint = 8 << 10

// hinted is the subject of an ID token that this issuer made for the client.
// It only names whom the client expects.
func (s *server) hinted(compact, clientID string) (string, error) {
	claims, err := s.hint(compact)
	if err != nil {
		return "", err
	}
	if !slices.Contains(claims.Audience, clientID) {
		return "", errors.New("it is for somebody else")
	}
	return claims.Subject, nil
}

// hint is what an ID token of this issuer says. It may have expired (OpenID
// Connect Core §3.1.2.1, RP-Initiated Logout §2); an access token does not pass
// for it, nor does a logout token.
func (s *server) hint(compact string) (*oidc.IDTokenClaims, error) {
	if len(compact) > maxHint {
		return nil, errors.New("it is too long")
	}
	message, err := jws.Parse([]byte(compact), jws.WithCompact())
	if err != nil || len(message.Signatures()) != 1 {
		return nil, errors.New("it is no compact JWS")
	}
	set, err := jwk.Parse(s.keys.JWKS())
	if err != nil {
		return nil, fmt.Errorf("reading our own keys: %w", err)
	}
	header := message.Signatures()[0].ProtectedHeaders()
	key, known := set.LookupKeyID(header.KeyID())
	if !known || key.Algorithm() != header.Algorithm() || header.Type() != "JWT" { // RFC 8725 §3.1
		return nil, errors.New("its kid, alg or typ is not that of an ID token")
	}
	payload, err := jws.Verify([]byte(compact), jws.WithKeySet(set, jws.WithRequireKid(true)))
	if err != nil {
		return nil, fmt.Errorf("verifying it: %w", err)
	}
	claims := &oidc.IDTokenClaims{}
	if err := json.Unmarshal(payload, claims); err != nil {
		return nil, fmt.Errorf("reading its claims: %w", err)
	}
	if claims.Issuer != s.config.URL || len(claims.Audience) == 0 || claims.Subject == "" {
		return nil, errors.New("it is from somebody else, or for nobody")
	}
	return claims, nil
}
