package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Header is the header of a good access token by the key; the map is the
// caller's.
func (k *Key) Header() map[string]any {
	return map[string]any{"alg": k.alg, "typ": "at+jwt", "kid": k.id}
}

// Claims are those of a good access token for a client that acts for itself,
// issued at a time and valid for five minutes; the map is the caller's.
func Claims(issuer, audience string, now time.Time) map[string]any {
	return map[string]any{
		"iss": issuer, "aud": audience, "sub": "svc-orders", "client_id": "svc-orders",
		"jti": Encode([]byte(rand.Text()))[:22], "scope": "read:orders write:orders",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
}

// UserClaims are those of a good access token for a person.
func UserClaims(issuer, audience string, now time.Time) map[string]any {
	return With(Claims(issuer, audience, now), map[string]any{
		"sub": "usr_anna", "client_id": "web", "roles": []string{"customer"},
		"sid": "ses_1", "grant_id": "grt_1", "auth_time": now.Unix(),
	})
}

// Sign makes a compact JWS of any header and claims. The header is taken as it
// is: alg, typ and kid are in it only if the caller put them there.
func (k *Key) Sign(header, claims map[string]any) string {
	return k.SignRaw(must(json.Marshal(header)), must(json.Marshal(claims)))
}

// SignRaw makes a compact JWS of any bytes as header and payload.
func (k *Key) SignRaw(header, payload []byte) string {
	return k.SignInput(Encode(header) + "." + Encode(payload))
}

// SignInput signs any signing input, well formed or not.
func (k *Key) SignInput(input string) string {
	return input + "." + Encode(k.Signature([]byte(input)))
}

// Signature signs with the key's algorithm, in the form that JWS wants.
func (k *Key) Signature(input []byte) []byte {
	hash, hashed := crypto.SHA256, sha256.Sum256(input)
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		return ecdsaSignature(private, input)
	case *rsa.PrivateKey:
		if k.alg == "PS256" {
			return must(rsa.SignPSS(rand.Reader, private, hash, hashed[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(nil, private, hash, hashed[:]))
	case ed25519.PrivateKey:
		return ed25519.Sign(private, input)
	}
	panic(fmt.Sprintf("tokentest: no signatures by a %T", k.private))
}

// ecdsaSignature is r ‖ s, each as long as the curve's order (RFC 7518 §3.4).
func ecdsaSignature(private *ecdsa.PrivateKey, input []byte) []byte {
	size := (private.Params().BitSize + 7) / 8
	r, s, err := ecdsa.Sign(rand.Reader, private, digest(size, input))
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature
}

func digest(size int, input []byte) []byte {
	if size == 48 {
		sum := sha512.Sum384(input)
		return sum[:]
	}
	sum := sha256.Sum256(input)
	return sum[:]
}

// Encode is base64url without padding (RFC 7515 §2).
func Encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
