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
// It may have expired (OpenID Connect Core §3.1.2.1); it only names whom the
// client expects, and an access token does not pass for it.
func (s *server) hinted(compact, clientID string) (string, error) {
	if len(compact) > maxHint {
		return "", errors.New("it is too long")
	}
	message, err := jws.Parse([]byte(compact), jws.WithCompact())
	if err != nil || len(message.Signatures()) != 1 {
		return "", errors.New("it is no compact JWS")
	}
	set, err := jwk.Parse(s.keys.JWKS())
	if err != nil {
		return "", fmt.Errorf("reading our own keys: %w", err)
	}
	header := message.Signatures()[0].ProtectedHeaders()
	key, known := set.LookupKeyID(header.KeyID())
	if !known || key.Algorithm() != header.Algorithm() || header.Type() != "JWT" { // RFC 8725 §3.1
		return "", errors.New("its kid, alg or typ is not that of an ID token")
	}
	payload, err := jws.Verify([]byte(compact), jws.WithKeySet(set, jws.WithRequireKid(true)))
	if err != nil {
		return "", fmt.Errorf("verifying it: %w", err)
	}
	claims := &oidc.IDTokenClaims{}
	if err := json.Unmarshal(payload, claims); err != nil {
		return "", fmt.Errorf("reading its claims: %w", err)
	}
	if claims.Issuer != s.config.URL || !slices.Contains(claims.Audience, clientID) || claims.Subject == "" {
		return "", errors.New("it is from or for somebody else")
	}
	return claims.Subject, nil
}
