package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
)

// Bounds on RSA keys. At least 2048 bits: RFC 7518 §3.3. At most 4096: a
// verification's cost grows with the square, and the issuer's attacker would
// choose it. Exponents: RFC 8017 §3.1 (odd, at least 3), and what crypto/rsa
// takes.
const (
	minModulus  = 2048
	maxModulus  = 4096
	minExponent = 3
	maxExponent = 1<<31 - 1
)

// public makes the Go key, validated (RFC 8725 §3.4).
func (k *jwk) public() (any, error) {
	switch k.kty {
	case ktyEC:
		return k.ec()
	case ktyRSA:
		return k.rsa()
	case ktyOKP:
		return k.ed25519()
	}
	return nil, fmt.Errorf("its kty %s is not supported", quoted(k.kty))
}

// ec reads a point (RFC 7518 §6.2.1) that is on its curve.
func (k *jwk) ec() (*ecdsa.PublicKey, error) {
	c, ok := curveNamed(k.crv)
	if !ok {
		return nil, fmt.Errorf("its crv %s is not supported", quoted(k.crv))
	}
	x, err := coordinate(k.x, c.size)
	if err != nil {
		return nil, fmt.Errorf("its x: %w", err)
	}
	y, err := coordinate(k.y, c.size)
	if err != nil {
		return nil, fmt.Errorf("its y: %w", err)
	}
	point := append(append([]byte{4}, x...), y...) // SEC 1 §2.3.3, uncompressed
	public, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
	if err != nil {
		return nil, fmt.Errorf("its point: %w", err)
	}
	return public, nil
}

// coordinate has the full length of the curve's, leading zeros included (RFC
// 7518 §6.2.1.2).
func coordinate(text string, size int) ([]byte, error) {
	raw, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(raw) != size {
		return nil, fmt.Errorf("%d bytes, not %d", len(raw), size)
	}
	return raw, nil
}

// rsa reads a modulus and an exponent (RFC 7518 §6.3.1).
func (k *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := unsigned(k.n)
	if err != nil {
		return nil, fmt.Errorf("its n: %w", err)
	}
	e, err := unsigned(k.e)
	if err != nil {
		return nil, fmt.Errorf("its e: %w", err)
	}
	switch {
	case n.BitLen() < minModulus || n.BitLen() > maxModulus:
		return nil, fmt.Errorf("its modulus has %d bits, not %d to %d", n.BitLen(), minModulus, maxModulus)
	case n.Bit(0) == 0:
		return nil, fmt.Errorf("its modulus is even")
	case e.Bit(0) == 0 || !e.IsInt64() || e.Int64() < minExponent || e.Int64() > maxExponent:
		return nil, fmt.Errorf("its exponent is not odd and between %d and %d", minExponent, maxExponent)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// unsigned reads a Base64urlUInt: as few octets as its value needs (RFC 7518
// §2), so that a key has one spelling and one thumbprint.
func unsigned(text string) (*big.Int, error) {
	raw, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 || raw[0] == 0 {
		return nil, fmt.Errorf("empty, or with a leading zero")
	}
	return new(big.Int).SetBytes(raw), nil
}

// ed25519 reads a key of RFC 8037 §2.
func (k *jwk) ed25519() (ed25519.PublicKey, error) {
	if k.y != "" {
		return nil, fmt.Errorf("it has a y, which Ed25519 has not")
	}
	x, err := coordinate(k.x, ed25519.PublicKeySize)
	if err != nil {
		return nil, fmt.Errorf("its x: %w", err)
	}
	if isSmallOrder(x) {
		return nil, fmt.Errorf("its point has a small order: anybody can sign for it")
	}
	return x, nil
}

// smallOrder are the encodings of the points of order 1, 2, 4 and 8 on
// edwards25519 (RFC 7748 §4.1, RFC 8032 §5.1.3), non-canonical ones included,
// without the bit of the sign.
var smallOrder = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func isSmallOrder(x []byte) bool {
	unsigned := append([]byte{}, x...)
	unsigned[len(unsigned)-1] &= 0x7f
	text := hex.EncodeToString(unsigned)
	for _, encoding := range smallOrder {
		if text == encoding {
			return true
		}
	}
	return false
}

// thumbprint follows RFC 7638 §3. The members are canonical base64url and
// curves' names by now, so that they need no escaping.
func (k *jwk) thumbprint() string {
	var text string
	switch k.kty {
	case ktyEC:
		text = `{"crv":"` + k.crv + `","kty":"EC","x":"` + k.x + `","y":"` + k.y + `"}`
	case ktyRSA:
		text = `{"e":"` + k.e + `","kty":"RSA","n":"` + k.n + `"}`
	case ktyOKP: // RFC 8037 §2 and appendix A.3
		text = `{"crv":"` + k.crv + `","kty":"OKP","x":"` + k.x + `"}`
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
