package tokentest

import (
	"crypto/rand"
	"crypto/sha256"
	"time"
)

// ProofHeader is the header of a good DPoP proof by the key (RFC 9449 §4.2);
// the map is the caller's.
func (k *Key) ProofHeader() map[string]any {
	return map[string]any{"alg": k.alg, "typ": "dpop+jwt", "jwk": k.material()}
}

// ProofClaims are those of a good DPoP proof for a request; with an access
// token, they name it. The map is the caller's.
func ProofClaims(method, url, accessToken string, now time.Time) map[string]any {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": now.Unix()}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims["ath"] = Encode(sum[:])
	}
	return claims
}

// Proof is a good DPoP proof.
func (k *Key) Proof(method, url, accessToken string, now time.Time) string {
	return k.Sign(k.ProofHeader(), ProofClaims(method, url, accessToken, now))
}

// ClientAssertion are the claims of a good client assertion (RFC 7523 §3), good
// for a minute; the map is the caller's.
func ClientAssertion(clientID, audience string, now time.Time) map[string]any {
	return map[string]any{
		"iss": clientID, "sub": clientID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
}
