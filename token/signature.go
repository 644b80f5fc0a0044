package token

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// newSignatureVerifier returns jwx's low-level verifier, which sees the signing
// input as it came: jws.Verify would take the token apart a second time.
func newSignatureVerifier(alg Algorithm) (jws.Verifier, error) {
	if alg == PS256 {
		return saltedPSS{}, nil
	}
	verifier, err := jws.NewVerifier(alg.jwa())
	if err != nil {
		return nil, fmt.Errorf("choosing a verifier: %w", err)
	}
	return verifier, nil
}

// saltedPSS verifies PS256 where jwx does not suffice: it accepts a salt of any
// length, and RFC 7518 §3.5 demands one as long as the hash.
type saltedPSS struct{}

func (saltedPSS) Algorithm() jwa.SignatureAlgorithm { return jwa.PS256 }

func (saltedPSS) Verify(payload, signature []byte, key any) error {
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("a key of type %T, not RSA", key)
	}
	digest := sha256.Sum256(payload)
	return rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
}
