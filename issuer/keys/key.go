package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"gatehouse.dev/gatehouse/issuer/store"
)

// The algorithms that Gatehouse signs with. ES256 is the default: FAPI 2.0
// §5.4 bars RS256, and RSA costs 25 times as much.
const (
	ES256 = "ES256"
	RS256 = "RS256"
	PS256 = "PS256"
	EdDSA = "EdDSA"
)

// rsaBits is what RFC 7518 §3.3 asks for at least and NIST SP 800-57 holds good
// until 2030; a key lives for weeks.
const rsaBits = 2048

// generators make private keys, by JWS algorithm.
var generators = map[string]func() (crypto.Signer, error){
	ES256: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	RS256: generateRSA,
	PS256: generateRSA,
	EdDSA: func() (crypto.Signer, error) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	},
}

func generateRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) }

// Algorithms are all that Gatehouse can sign with, the default first.
func Algorithms() []string { return []string{ES256, EdDSA, PS256, RS256} }

// generate makes a key for an algorithm, created now, in no state yet.
func (s sealer) generate(algorithm string, now time.Time) (store.Key, error) {
	private, err := generators[algorithm]()
	if err != nil {
		return store.Key{}, fmt.Errorf("generating an %s key: %w", algorithm, err)
	}
	public, id, err := publish(private.Public(), algorithm)
	if err != nil {
		return store.Key{}, fmt.Errorf("describing a new %s key: %w", algorithm, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return store.Key{}, fmt.Errorf("encoding a new %s key: %w", algorithm, err)
	}
	return store.Key{
		ID: id, Algorithm: algorithm, CreatedAt: now,
		Public: public, Sealed: s.seal(id, der),
	}, nil
}

// publish describes a public key as a JWK whose kid is its RFC 7638 thumbprint.
func publish(public crypto.PublicKey, algorithm string) (encoded []byte, id string, err error) {
	key, err := jwk.FromRaw(public)
	if err != nil {
		return nil, "", err
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", err
	}
	id = base64.RawURLEncoding.EncodeToString(thumbprint)
	for name, value := range map[string]any{
		jwk.KeyIDKey: id, jwk.AlgorithmKey: jwa.SignatureAlgorithm(algorithm), jwk.KeyUsageKey: jwk.ForSignature,
	} {
		if err := key.Set(name, value); err != nil {
			return nil, "", err
		}
	}
	encoded, err = json.Marshal(key)
	return encoded, id, err
}

// signer is an unsealed key, ready to sign.
type signer struct {
	id        string
	algorithm string
	private   crypto.Signer
	sign      jws.Signer
	verify    jws.Verifier
}

func (s sealer) signer(k store.Key) (*signer, error) {
	der, err := s.unseal(k.ID, k.Sealed)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("decoding key %q: %w", k.ID, err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("decoding key %q: a %T cannot sign", k.ID, parsed)
	}
	sign, err := jws.NewSigner(jwa.SignatureAlgorithm(k.Algorithm))
	if err != nil {
		return nil, fmt.Errorf("preparing key %q: %w", k.ID, err)
	}
	verify, err := jws.NewVerifier(jwa.SignatureAlgorithm(k.Algorithm))
	if err != nil {
		return nil, fmt.Errorf("preparing key %q: %w", k.ID, err)
	}
	return &signer{id: k.ID, algorithm: k.Algorithm, private: private, sign: sign, verify: verify}, nil
}

// protected is the JOSE header (RFC 7515 §4.1).
type protected struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// compact signs claims as a compact JWS (RFC 7515 §7.1); input is what was
// signed.
func (s *signer) compact(typ string, claims []byte) (input, signature []byte, err error) {
	header, err := json.Marshal(protected{Algorithm: s.algorithm, KeyID: s.id, Type: typ})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a JOSE header: %w", err)
	}
	input = base64.RawURLEncoding.AppendEncode(nil, header)
	input = base64.RawURLEncoding.AppendEncode(append(input, '.'), claims)
	signature, err = s.sign.Sign(input, s.private)
	if err != nil {
		return nil, nil, fmt.Errorf("signing with key %q: %w", s.id, err)
	}
	return input, signature, nil
}

// check verifies a signature before it leaves: a fault while signing can give
// the private key away.
func (s *signer) check(input, signature []byte) error {
	if err := s.verify.Verify(input, signature, s.private.Public()); err != nil {
		return fmt.Errorf("verifying a fresh signature of key %q: %w", s.id, err)
	}
	return nil
}

// join makes the compact form.
func join(input, signature []byte) string {
	return string(base64.RawURLEncoding.AppendEncode(append(input, '.'), signature))
}
