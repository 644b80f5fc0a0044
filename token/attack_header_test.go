package token_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func TestAttacksOnTheHeader(t *testing.T) {
	f := newForger("ES256")
	other := tokentest.NewKey("ES256")
	set := func(name string, value any) string { return f.header(map[string]any{name: value}) }
	m, a := token.ReasonMalformed, token.ReasonAlgorithm
	attacks := []attack{
		{"RFC 7515 §4.1.1 alg missing", set("alg", nil), m},
		{"RFC 7515 §4.1.1 alg null", set("alg", tokentest.Null), m},
		{"RFC 7515 §4.1.1 alg empty", set("alg", ""), a},
		{"RFC 7515 §4.1.1 alg a number", set("alg", 256), m},
		{"RFC 7515 §4.1.1 alg an array", set("alg", []string{"ES256"}), m},
		{"RFC 7515 §4.1.1 alg in lower case", set("alg", "es256"), a},
		{"RFC 7515 §4.1.1 alg with a space", set("alg", "ES256 "), a},
		{"RFC 7515 §4.1.1 alg with NUL", set("alg", "ES256\x00"), a},
		{"RFC 7515 §4 member names are case-sensitive: ALG", f.header(map[string]any{"alg": nil, "ALG": "ES256"}), m},
		{"RFC 7515 §4 member names are case-sensitive: Kid", f.header(map[string]any{"kid": nil, "Kid": f.key.ID()}), m},
		{"RFC 7515 §4 member names do not fold: ſ for s", f.payload(strings.Replace(marshal(f.body), `"iss"`, `"i\u017fs"`, 1)), token.ReasonIssuer},
		{"RFC 8725 §3.1 an algorithm nobody knows", set("alg", "XX999"), a},
		{"RFC 8725 §3.1 ES256K", set("alg", "ES256K"), a},
		{"RFC 8725 §3.1 ES512", set("alg", "ES512"), a},
		{"RFC 8725 §3.1 RS512", set("alg", "RS512"), a},
		{"RFC 8725 §3.1 another algorithm than the key's, ES384", set("alg", "ES384"), a},
		{"RFC 8725 §3.1 another algorithm than the key's, RS256", set("alg", "RS256"), a},
		{"RFC 8725 §3.1 another algorithm than the key's, EdDSA", set("alg", "EdDSA"), a},
		{"RFC 7516 §4.1.1 alg of a JWE", set("alg", "ECDH-ES"), a},
		{"RFC 7518 §4.8 alg of a password", set("alg", "PBES2-HS256+A128KW"), a},

		{"RFC 7515 §4.1.11 crit of something unknown", f.header(map[string]any{"crit": []string{"x"}, "x": 1}), m},
		{"RFC 7515 §4.1.11 crit empty", set("crit", []string{}), m},
		{"RFC 7515 §4.1.11 crit null", set("crit", tokentest.Null), m},
		{"RFC 7515 §4.1.11 crit of what is absent", set("crit", []string{"exp"}), m},
		{"RFC 7515 §4.1.11 crit by an escaped name", f.headText(`"cr\u0069t":["x"]`), m},
		{"RFC 7797 §3 b64 false", set("b64", false), m},
		{"RFC 7797 §3 b64 true", set("b64", true), m},
		{"RFC 7797 §6 b64 with crit", f.header(map[string]any{"b64": false, "crit": []string{"b64"}}), m},
		{"RFC 8725 §3.10 jku", set("jku", "https://attacker.example/keys"), m},
		{"RFC 8725 §3.10 x5u", set("x5u", "https://attacker.example/cert"), m},
		{"RFC 7515 §4.1.3 jwk", set("jwk", f.key.JWK()), m},
		{"RFC 7515 §4.1.6 x5c", set("x5c", []string{"MIIB"}), m},
		{"RFC 7516 §4.1.3 zip", set("zip", "DEF"), m},
		{"RFC 7516 §4.1.2 enc", set("enc", "A128GCM"), m},
		{"RFC 7519 §5.2 cty JWT", set("cty", "JWT"), m},
		{"RFC 7519 §5.3 iss repeated in the header", set("iss", testIssuer), m},
		{"RFC 7519 §5.3 aud repeated in the header", set("aud", testAudience), m},

		{"RFC 9068 §4 typ missing", set("typ", nil), m},
		{"RFC 9068 §4 typ null", set("typ", tokentest.Null), m},
		{"RFC 9068 §4 typ empty", set("typ", ""), m},
		{"RFC 9068 §4 typ an array", set("typ", []string{"at+jwt"}), m},
		{"RFC 8725 §3.11 typ JWT", set("typ", "JWT"), token.ReasonType},
		{"RFC 8725 §3.11 typ of a logout token", set("typ", "logout+jwt"), token.ReasonType},
		{"RFC 8725 §3.11 typ of a DPoP proof", set("typ", "dpop+jwt"), token.ReasonType},
		{"RFC 8725 §3.11 typ with a suffix", set("typ", "at+jwt;x=1"), token.ReasonType},
		{"RFC 8725 §3.11 typ in upper case", set("typ", "AT+JWT"), token.ReasonType},
		{"RFC 8725 §3.11 typ with a space", set("typ", " at+jwt"), token.ReasonType},
		{"RFC 8725 §3.11 typ application/jwt", set("typ", "application/jwt"), token.ReasonType},
		{"RFC 8725 §3.11 typ with a control", set("typ", "at+jwt\n"), m},

		{"RFC 7515 §4.1.4 kid missing", set("kid", nil), m},
		{"RFC 7515 §4.1.4 kid null", set("kid", tokentest.Null), m},
		{"RFC 7515 §4.1.4 kid empty", set("kid", ""), m},
		{"RFC 7515 §4.1.4 kid a number", set("kid", 0), m},
		{"RFC 7515 §4.1.4 kid an object", set("kid", map[string]any{"$ne": ""}), m},
		{"RFC 7515 §4.1.4 kid in another case", set("kid", strings.ToUpper(f.key.ID())), token.ReasonUnknownKey},
		{"RFC 7515 §4.1.4 kid cut short", set("kid", f.key.ID()[:20]), token.ReasonUnknownKey},
		{"RFC 8725 §3.10 kid a path", set("kid", "../../../../dev/null"), token.ReasonUnknownKey},
		{"RFC 8725 §3.10 kid an SQL statement", set("kid", "' UNION SELECT 'key' -- "), token.ReasonUnknownKey},
		{"RFC 8725 §3.10 kid an LDAP filter", set("kid", "*)(kid=*"), token.ReasonUnknownKey},
		{"RFC 8725 §3.10 kid with NUL", set("kid", f.key.ID()+"\x00"), m},
		{"RFC 8725 §3.10 kid with a line break", set("kid", "a\nb"), m},
		{"RFC 8725 §3.10 kid beyond its bound", set("kid", strings.Repeat("k", 257)), m},
		{"RFC 7515 §6 kid of a key that is not the issuer's", other.Sign(other.Header(), f.body), token.ReasonUnknownKey},
		{"RFC 7515 §6 the key's kid, another key's signature", other.Sign(f.head, f.body), token.ReasonSignature},
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", "HS256", "HS384", "HS512"} {
		attacks = append(attacks, attack{"RFC 8725 §3.2 alg " + alg, set("alg", alg), a})
	}
	runAttacks(t, f, attacks)
}

// TestAttackPublicKeyAsSecret signs with HMAC and what everybody knows of the
// key as the secret, in every form that a library may take it (RFC 8725 §2.1).
func TestAttackPublicKeyAsSecret(t *testing.T) {
	f := newForger("RS256")
	public := f.key.Signer().Public().(*rsa.PublicKey)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	secrets := map[string][]byte{
		"PKIX DER": pkix, "PKCS 1 DER": pkcs1,
		"PKIX PEM":    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PKCS 1 PEM":  pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"the modulus": public.N.Bytes(), "the JWK": []byte(marshal(f.key.JWK())),
		"the kid": []byte(f.key.ID()), "nothing": nil,
	}
	var attacks []attack
	for name, secret := range secrets {
		for _, alg := range []string{"HS256", "RS256"} {
			head := tokentest.With(f.head, map[string]any{"alg": alg})
			input := tokentest.Encode([]byte(marshal(head))) + "." + tokentest.Encode([]byte(marshal(f.body)))
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(input))
			reason := token.ReasonAlgorithm
			if alg == "RS256" {
				reason = token.ReasonSignature
			}
			attacks = append(attacks, attack{"RFC 8725 §3.1 " + alg + " by HMAC with " + name, input + "." + tokentest.Encode(mac.Sum(nil)), reason})
		}
	}
	runAttacks(t, f, attacks)
}

// TestAttackAlgorithmNotAllowed has a key of the issuer's, published for an
// algorithm that the verifier does not allow (RFC 8725 §3.1).
func TestAttackAlgorithmNotAllowed(t *testing.T) {
	f := newForger("RS256")
	c := config(t, f.key)
	mustVerify(t, verifierOf(t, c), f.good())
	c.Algorithms = []token.Algorithm{token.ES256}
	if _, err := verify(verifierOf(t, c), f.good()); reasonOf(t, err) != token.ReasonAlgorithm {
		t.Errorf("an algorithm that is not allowed: %v", err)
	}
}

// TestAttackRSASchemes keeps the two RSA schemes apart though they share the
// kind of key (RFC 8725 §3.1).
func TestAttackRSASchemes(t *testing.T) {
	f := newForger("RS256")
	pss := f.key.WithAlgorithm("PS256")
	runAttacks(t, f, []attack{
		{"RFC 8725 §3.1 PS256 by a key for RS256", pss.Sign(pss.Header(), f.body), token.ReasonAlgorithm},
		{"RFC 8725 §3.1 a PS256 signature called RS256", pss.Sign(f.head, f.body), token.ReasonSignature},
		{"RFC 7518 §3.3 signature over another hash", rsaOver(t, f, crypto.SHA512), token.ReasonSignature},
		{"RFC 7518 §3.3 signature without a hash's name", rsaOver(t, f, crypto.Hash(0)), token.ReasonSignature},
		{"RFC 8017 §8.2.2 a zero octet in front", f.signed(func(s []byte) []byte { return append([]byte{0}, s...) }), token.ReasonSignature},
		{"RFC 8017 §8.2.2 a zero octet behind", f.signed(func(s []byte) []byte { return append(s, 0) }), token.ReasonSignature},
		{"RFC 8017 §8.2.2 an octet short", f.signed(func(s []byte) []byte { return s[:len(s)-1] }), token.ReasonSignature},
		{"RFC 8017 §5.2.2 all zeros", f.signed(func(s []byte) []byte { return make([]byte, len(s)) }), token.ReasonSignature},
		{"RFC 8017 §5.2.2 one", f.signed(func(s []byte) []byte { return append(make([]byte, len(s)-1), 1) }), token.ReasonSignature},
		{"RFC 8017 §5.2.2 beyond the modulus", f.signed(func(s []byte) []byte { return repeat(0xff, len(s)) }), token.ReasonSignature},
		{"RFC 7518 §3.3 base64 of the signature's base64", f.signed(func(s []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(s)) }), token.ReasonSignature},
	})
}

// rsaOver signs the good signing input with another hash.
func rsaOver(t *testing.T, f forger, hash crypto.Hash) string {
	t.Helper()
	header, payload, _ := f.parts()
	input := header + "." + payload
	var digest []byte
	if hash == 0 {
		sum := sha256.Sum256([]byte(input))
		digest = sum[:]
	} else {
		h := hash.New()
		h.Write([]byte(input))
		digest = h.Sum(nil)
	}
	signature, err := rsa.SignPKCS1v15(nil, f.key.Signer().(*rsa.PrivateKey), hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + tokentest.Encode(signature)
}

func repeat(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}
