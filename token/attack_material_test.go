package token_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// TestSmallOrderPoints has each encoding, with either sign (RFC 8032 §5.1.3).
func TestSmallOrderPoints(t *testing.T) {
	ed := tokentest.NewKey("EdDSA")
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			raw, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			raw[31] |= sign
			if !forgeable(raw) {
				t.Errorf("%x is no such point: nobody can sign for it", raw)
			}
			jwk := tokentest.With(ed.JWK(), map[string]any{"x": tokentest.Encode(raw)})
			if _, err := token.ParseKeySet(tokentest.RawJWKS(jwk), token.Algorithms()); !errors.Is(err, token.ErrNoKeys) {
				t.Errorf("%x is taken for a key", raw)
			}
		}
	}
}

// forgeable tells whether a signature made without a private key verifies: with
// R the neutral point and S zero, one message in eight does for a point of
// small order.
func forgeable(public []byte) bool {
	signature := make([]byte, ed25519.SignatureSize)
	signature[0] = 1
	for i := range 256 {
		if ed25519.Verify(public, fmt.Append(nil, i), signature) {
			return true
		}
	}
	return false
}

// coordinate decodes a member of a key.
func coordinate(t *testing.T, k *tokentest.Key, name string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(k.JWK()[name].(string))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func zeros(n int) string { return tokentest.Encode(make([]byte, n)) }

// odd is an odd number of so many bits.
func odd(bits uint) []byte {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.SetBit(n, 0, 1).Bytes()
}

// smallRSA is a modulus that Go itself would not generate any more.
func smallRSA(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits/2)
	if err != nil {
		t.Fatal(err)
	}
	q, err := rand.Prime(rand.Reader, bits/2)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).Mul(p, q)
}
