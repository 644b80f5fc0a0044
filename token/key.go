package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jws"
)

// Key is a public key that verifies signatures of one algorithm (RFC 8725
// §3.1: a key is used with one algorithm alone). It is immutable.
type Key struct {
	id         string
	thumbprint string
	alg        Algorithm
	public     any // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
	size       int // octets of every signature by it
	verifier   jws.Verifier
}

// ID is the key's kid.
func (k *Key) ID() string { return k.id }

// Thumbprint is the SHA-256 thumbprint of RFC 7638, in base64url. It depends on
// the key alone, while a kid can be given to another key.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Algorithm is the one that the key may be used with.
func (k *Key) Algorithm() Algorithm { return k.alg }

// verify tells whether the key signed the input. The signature's length is
// fixed by the key: RFC 7518 §3.3 (the modulus), §3.4 (both coordinates'
// length), RFC 8032 §5.1.6.
func (k *Key) verify(input string, signature []byte) error {
	if len(signature) != k.size {
		return fmt.Errorf("a signature of %d bytes, where the key makes %d", len(signature), k.size)
	}
	return k.verifier.Verify([]byte(input), signature, k.public)
}

// newKey pairs a public key with its algorithm.
func newKey(id, thumbprint string, alg Algorithm, public any) (*Key, error) {
	verifier, err := newSignatureVerifier(alg)
	if err != nil {
		return nil, err
	}
	k := &Key{id: id, thumbprint: thumbprint, alg: alg, public: public, verifier: verifier}
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		k.size = 2 * ((public.Params().BitSize + 7) / 8)
	case *rsa.PublicKey:
		k.size = public.Size()
	case ed25519.PublicKey:
		k.size = ed25519.SignatureSize
	default:
		return nil, fmt.Errorf("a key of type %T verifies nothing here", public)
	}
	return k, nil
}
