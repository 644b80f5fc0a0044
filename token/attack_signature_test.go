package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func TestAttacksOnTheSignature(t *testing.T) {
	for _, alg := range token.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			f := newForger(string(alg))
			header, payload, signature := f.parts()
			other := newForger(string(alg))
			other.head = f.head
			other.body = tokentest.With(f.body, map[string]any{"scope": "admin"})
			_, richer, _ := other.parts()
			flip := func(at int) string {
				return f.signed(func(s []byte) []byte { s[at%len(s)] ^= 1; return s })
			}
			sig := token.ReasonSignature
			runAttacks(t, f, []attack{
				{"RFC 7515 §5.2 another payload under the signature", header + "." + richer + "." + signature, sig},
				{"RFC 7515 §5.2 another key's signature", other.key.SignInput(header + "." + payload), sig},
				{"RFC 7515 §5.2 signature of the payload alone", header + "." + payload + "." + tokentest.Encode(f.key.Signature([]byte(payload))), sig},
				{"RFC 7515 §5.2 signature of what is encoded", header + "." + payload + "." + tokentest.Encode(f.key.Signature([]byte(marshal(f.head)+"."+marshal(f.body)))), sig},
				{"RFC 7515 §5.2 header spelled otherwise under the signature", tokentest.Encode([]byte(" "+marshal(f.head))) + "." + payload + "." + signature, sig},
				{"RFC 7515 §5.2 payload spelled otherwise under the signature", header + "." + tokentest.Encode([]byte(marshal(f.body)+" ")) + "." + signature, sig},
				{"RFC 7515 §5.2 first bit flipped", flip(0), sig},
				{"RFC 7515 §5.2 last bit flipped", flip(1<<20 - 1), sig},
				{"RFC 7515 §5.2 one octet", f.signed(func([]byte) []byte { return []byte{0} }), sig},
				{"RFC 7515 §5.2 half", f.signed(func(s []byte) []byte { return s[:len(s)/2] }), sig},
				{"RFC 7515 §5.2 twice", f.signed(func(s []byte) []byte { return append(s, s...) }), sig},
				{"RFC 7515 §5.2 one octet more", f.signed(func(s []byte) []byte { return append(s, 0) }), sig},
				{"RFC 7515 §5.2 one octet less", f.signed(func(s []byte) []byte { return s[:len(s)-1] }), sig},
				{"RFC 7515 §5.2 all zeros", f.signed(func(s []byte) []byte { return make([]byte, len(s)) }), sig},
				{"RFC 7515 §5.2 all ones", f.signed(func(s []byte) []byte { return repeat(0xff, len(s)) }), sig},
				{"RFC 7515 §5.2 removed", header + "." + payload + ".", token.ReasonMalformed},
			})
		})
	}
}

// TestAttacksOnECDSA has halves that no signature has (RFC 7518 §3.4, SEC 1
// §4.1.4), for each curve.
func TestAttacksOnECDSA(t *testing.T) {
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()} {
		t.Run(alg, func(t *testing.T) {
			f := newForger(alg)
			size := (curve.Params().BitSize + 7) / 8
			n := curve.Params().N
			half := func(v *big.Int) []byte { return v.FillBytes(make([]byte, size)) }
			with := func(r, s *big.Int) string {
				return f.signed(func(good []byte) []byte {
					if r != nil {
						copy(good, half(r))
					}
					if s != nil {
						copy(good[size:], half(s))
					}
					return good
				})
			}
			zero, one := new(big.Int), big.NewInt(1)
			sig := token.ReasonSignature
			runAttacks(t, f, []attack{
				{"RFC 7518 §3.4 r = 0 (CVE-2022-21449)", with(zero, nil), sig},
				{"RFC 7518 §3.4 s = 0 (CVE-2022-21449)", with(nil, zero), sig},
				{"RFC 7518 §3.4 r = s = 0 (CVE-2022-21449)", with(zero, zero), sig},
				{"RFC 7518 §3.4 r = s = 1", with(one, one), sig},
				{"SEC 1 §4.1.4 r = n", with(n, nil), sig},
				{"SEC 1 §4.1.4 s = n", with(nil, n), sig},
				{"SEC 1 §4.1.4 r = s = n", with(n, n), sig},
				{"SEC 1 §4.1.4 r = n, s = 0", with(n, zero), sig},
				{"SEC 1 §4.1.4 r = n + 1", with(new(big.Int).Add(n, one), nil), sig},
				{"SEC 1 §4.1.4 r beyond the field", with(new(big.Int).SetBytes(repeat(0xff, size)), nil), sig},
				{"RFC 7518 §3.4 DER", derSignature(t, f), sig},
				{"RFC 7518 §3.4 halves of one octet more", f.signed(func(s []byte) []byte {
					return append(append(append([]byte{0}, s[:size]...), 0), s[size:]...)
				}), sig},
				{"RFC 7518 §3.4 one octet in front", f.signed(func(s []byte) []byte { return append([]byte{0}, s...) }), sig},
				{"RFC 7518 §3.4 halves exchanged", f.signed(func(s []byte) []byte { return append(append([]byte{}, s[size:]...), s[:size]...) }), sig},
				{"RFC 7518 §3.4 r alone", f.signed(func(s []byte) []byte { return s[:size] }), sig},
				{"RFC 7518 §3.4 another hash", otherHash(t, f, curve), sig},
			})
		})
	}
}

// derSignature is a right signature in the encoding of X.509.
func derSignature(t *testing.T, f forger) string {
	t.Helper()
	header, payload, _ := f.parts()
	input := header + "." + payload
	hash, digest := crypto.SHA256, make([]byte, 0, 64)
	if f.key.Algorithm() == "ES384" {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write([]byte(input))
	der, err := f.key.Signer().Sign(rand.Reader, h.Sum(digest), hash)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + tokentest.Encode(der)
}

func otherHash(t *testing.T, f forger, curve elliptic.Curve) string {
	t.Helper()
	header, payload, _ := f.parts()
	sum := sha512.Sum512([]byte(header + "." + payload))
	r, s, err := ecdsa.Sign(rand.Reader, f.key.Signer().(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	size := (curve.Params().BitSize + 7) / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return header + "." + payload + "." + tokentest.Encode(signature)
}

// TestAttacksOnPSS varies the salt, whose length RFC 7518 §3.5 fixes.
func TestAttacksOnPSS(t *testing.T) {
	f := newForger("PS256")
	pkcs1 := f.key.WithAlgorithm("RS256")
	salted := func(length int) string {
		header, payload, _ := f.parts()
		sum := sha256.Sum256([]byte(header + "." + payload))
		signature, err := rsa.SignPSS(rand.Reader, f.key.Signer().(*rsa.PrivateKey), crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: length})
		if err != nil {
			t.Fatal(err)
		}
		return header + "." + payload + "." + tokentest.Encode(signature)
	}
	mustVerify(t, newVerifier(t, f.key), salted(32))
	runAttacks(t, f, []attack{
		{"RFC 7518 §3.5 a salt of 20 octets", salted(20), token.ReasonSignature},
		{"RFC 7518 §3.5 a salt of 64 octets", salted(64), token.ReasonSignature},
		{"RFC 7518 §3.5 the longest salt", salted(256 - 32 - 2), token.ReasonSignature},
		{"RFC 7518 §3.5 a PKCS 1 signature", pkcs1.Sign(f.head, f.body), token.ReasonSignature},
	})
}

// TestAttacksOnEd25519 uses that S is below the group's order (RFC 8032
// §5.1.7): S + L would be a second signature of the same token.
func TestAttacksOnEd25519(t *testing.T) {
	f := newForger("EdDSA")
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	malleable := f.signed(func(signature []byte) []byte {
		s := new(big.Int).SetBytes(reversed(signature[32:]))
		copy(signature[32:], reversed(s.Add(s, order).FillBytes(make([]byte, 32))))
		return signature
	})
	private := f.key.Signer().(ed25519.PrivateKey)
	prehashed := f.signed(func([]byte) []byte {
		header, payload, _ := f.parts()
		sum := sha512.Sum512([]byte(header + "." + payload))
		signature, err := private.Sign(nil, sum[:], crypto.SHA512)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	})
	runAttacks(t, f, []attack{
		{"RFC 8032 §5.1.7 S + L", malleable, token.ReasonSignature},
		{"RFC 8037 §3.1 Ed25519ph", prehashed, token.ReasonSignature},
	})
}

func reversed(in []byte) []byte {
	out := make([]byte, len(in))
	for i, b := range in {
		out[len(in)-1-i] = b
	}
	return out
}

// TestEverySingleMutationIsRefused changes each character of a token to one
// that spells other bits.
func TestEverySingleMutationIsRefused(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	good := f.good()
	mustVerify(t, v, good)
	for i := range len(good) {
		for _, c := range "Ag-_.9" {
			if good[i] == byte(c) {
				continue
			}
			changed := good[:i] + string(c) + good[i+1:]
			if _, err := verify(v, changed); err == nil {
				t.Fatalf("accepted with byte %d changed to %q", i, c)
			}
		}
		if _, err := verify(v, good[:i]); err == nil {
			t.Fatalf("accepted when cut at byte %d", i)
		}
	}
	if strings.Count(good, ".") != 2 {
		t.Fatal("the good token is none")
	}
}
