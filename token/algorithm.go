package token

import (
	"crypto/elliptic"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// Algorithm is a signature algorithm by its JWS name (RFC 7518 §3.1, RFC 8037
// §3.1). "none" and the symmetric ones have no place here: whoever can check an
// HMAC can make one.
type Algorithm string

// The algorithms that can be allowed.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	RS256 Algorithm = "RS256"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA" // with Ed25519 alone
)

var algorithms = []Algorithm{ES256, ES384, RS256, PS256, EdDSA}

// Algorithms are all that can be allowed.
func Algorithms() []Algorithm { return slices.Clone(algorithms) }

func supported(alg Algorithm) bool { return slices.Contains(algorithms, alg) }

// The key types of RFC 7518 §6.1 and RFC 8037 §2.
const (
	ktyEC  = "EC"
	ktyRSA = "RSA"
	ktyOKP = "OKP"
)

const crvEd25519 = "Ed25519"

// curve is what RFC 7518 §3.4 ties an ECDSA algorithm to.
type curve struct {
	name  string
	alg   Algorithm
	curve elliptic.Curve
	size  int // octets of a coordinate, and of each half of a signature
}

var curves = [...]curve{
	{"P-256", ES256, elliptic.P256(), 32},
	{"P-384", ES384, elliptic.P384(), 48},
}

func curveNamed(name string) (curve, bool) {
	for _, c := range curves {
		if c.name == name {
			return c, true
		}
	}
	return curve{}, false
}

func (a Algorithm) jwa() jwa.SignatureAlgorithm { return jwa.SignatureAlgorithm(a) }
