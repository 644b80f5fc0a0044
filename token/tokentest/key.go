package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

// Key is a signing key of one algorithm.
type Key struct {
	alg     string
	id      string
	private crypto.Signer
}

// NewKey makes a key for ES256, ES384, RS256, PS256 or EdDSA (Ed25519). Its kid
// is its RFC 7638 thumbprint.
func NewKey(alg string) *Key {
	return FromSigner(alg, generate(alg))
}

func generate(alg string) crypto.Signer {
	switch alg {
	case "ES256":
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "ES384":
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "RS256", "PS256":
		return must(rsa.GenerateKey(rand.Reader, 2048))
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return must(private, err)
	}
	panic(fmt.Sprintf("tokentest: no keys for the algorithm %q", alg))
}

// FromSigner makes a Key of an *ecdsa.PrivateKey, an *rsa.PrivateKey or an
// ed25519.PrivateKey.
func FromSigner(alg string, private crypto.Signer) *Key {
	k := &Key{alg: alg, private: private}
	k.id = k.Thumbprint()
	return k
}

// WithID is the same key under another kid.
func (k *Key) WithID(kid string) *Key {
	return &Key{alg: k.alg, id: kid, private: k.private}
}

// WithAlgorithm is the same key for another algorithm of its kind.
func (k *Key) WithAlgorithm(alg string) *Key {
	return &Key{alg: alg, id: k.id, private: k.private}
}

// ID is the key's kid.
func (k *Key) ID() string { return k.id }

// Algorithm is what the key signs with.
func (k *Key) Algorithm() string { return k.alg }

// Signer is the private key.
func (k *Key) Signer() crypto.Signer { return k.private }

// JWK is the public key as a JSON Web Key; the map is the caller's.
func (k *Key) JWK() map[string]any {
	jwk := k.material()
	jwk["use"], jwk["alg"], jwk["kid"] = "sig", k.alg, k.id
	return jwk
}

// material are the members that RFC 7638 §3.2 and RFC 8037 §2 require.
func (k *Key) material() map[string]any {
	switch public := k.private.Public().(type) {
	case *ecdsa.PublicKey:
		point := must(public.Bytes()) // 4 ‖ x ‖ y
		half := (len(point) - 1) / 2
		return map[string]any{"kty": "EC", "crv": public.Params().Name, "x": Encode(point[1 : 1+half]), "y": Encode(point[1+half:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": Encode(public.N.Bytes()), "e": Encode(big.NewInt(int64(public.E)).Bytes())}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": Encode(public)}
	}
	panic(fmt.Sprintf("tokentest: no JWK of a %T", k.private.Public()))
}

// Thumbprint is that of RFC 7638, in base64url.
func (k *Key) Thumbprint() string {
	// encoding/json sorts members, and the values need no escaping: RFC 7638 §3.
	sum := sha256.Sum256(must(json.Marshal(k.material())))
	return Encode(sum[:])
}

// JWKS is a JWK Set with the public keys.
func JWKS(keys ...*Key) []byte {
	jwks := make([]map[string]any, len(keys))
	for i, k := range keys {
		jwks[i] = k.JWK()
	}
	return RawJWKS(jwks...)
}

// RawJWKS is a JWK Set with anything in it.
func RawJWKS(jwks ...map[string]any) []byte {
	if jwks == nil {
		jwks = []map[string]any{}
	}
	return must(json.Marshal(map[string]any{"keys": jwks}))
}

// With is a copy of a map with members set; a nil value removes its member, and
// Null makes it null.
func With(m map[string]any, members map[string]any) map[string]any {
	out := maps.Clone(m)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if out[name] = members[name]; members[name] == nil {
			delete(out, name)
		}
	}
	return out
}

// Null is JSON's null, for With.
var Null = json.RawMessage("null")

func must[T any](value T, err error) T {
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	return value
}
