package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const (
	proofURL   = "https://api.example/orders/7"
	proofToken = "the-access-token"
)

var proofRules = token.ProofRules{
	Algorithms: []token.Algorithm{token.ES256, token.EdDSA, token.PS256}, MaxAge: time.Minute, Skew: 5 * time.Second,
}

func verifyProof(text string) (*token.Proof, error) {
	return token.VerifyProof(text, token.ProofRequest{Method: "GET", URLs: []string{"https://other.example/", proofURL + "?limit=5"}, AccessToken: proofToken}, proofRules, testNow)
}

// proofForger makes proofs that are wrong in one way.
type proofForger struct {
	key        *tokentest.Key
	head, body map[string]any
}

func newProofForger(alg string) proofForger {
	key := tokentest.NewKey(alg)
	return proofForger{key, key.ProofHeader(), tokentest.ProofClaims("GET", proofURL, proofToken, testNow)}
}

func (f proofForger) header(name string, value any) string {
	return f.key.Sign(tokentest.With(f.head, map[string]any{name: value}), f.body)
}

func (f proofForger) claim(name string, value any) string {
	return f.key.Sign(f.head, tokentest.With(f.body, map[string]any{name: value}))
}

func (f proofForger) jwk(members map[string]any) string {
	return f.header("jwk", tokentest.With(f.head["jwk"].(map[string]any), members))
}

func TestAttacksOnProofs(t *testing.T) {
	f := newProofForger("ES256")
	other := tokentest.NewKey("ES256")
	rsa := newProofForger("RS256")
	good := f.key.Sign(f.head, f.body)
	parts := strings.Split(good, ".")
	m, c := token.ReasonMalformed, token.ReasonClaim
	for _, a := range []attack{
		{"RFC 9449 §4.3 no. 2 nothing", "", m},
		{"RFC 9449 §4.3 no. 2 two proofs in one header", good + "," + good, m},
		{"RFC 9449 §4.3 no. 2 two parts", parts[0] + "." + parts[1], m},
		{"RFC 9449 §4.3 no. 2 a blank in front", " " + good, m},
		{"RFC 9449 §4.3 no. 2 a member twice", f.key.SignRaw([]byte(marshal(f.head)), []byte(withText(f.body, `"htm":"GET"`))), m},
		{"RFC 9449 §4.3 no. 2 longer than a token may be", f.claim("x", strings.Repeat("x", token.MaxSize)), m},
		{"RFC 9449 §4.3 no. 3 jti missing", f.claim("jti", nil), m},
		{"RFC 9449 §4.3 no. 3 jti empty", f.claim("jti", ""), m},
		{"RFC 9449 §4.3 no. 3 jti too long to remember", f.claim("jti", strings.Repeat("x", 256)), m},
		{"RFC 9449 §4.3 no. 3 htm missing", f.claim("htm", nil), m},
		{"RFC 9449 §4.3 no. 3 htu missing", f.claim("htu", nil), m},
		{"RFC 9449 §4.3 no. 3 iat missing", f.claim("iat", nil), m},
		{"RFC 9449 §4.3 no. 3 iat a string", f.claim("iat", "1800000000"), m},
		{"RFC 9449 §4.3 no. 3 alg missing", f.header("alg", nil), m},
		{"RFC 9449 §4.3 no. 3 jwk missing", f.header("jwk", nil), m},
		{"RFC 9449 §4.3 no. 3 jwk a string", f.header("jwk", "x"), m},
		{"RFC 9449 §4.3 no. 4 typ missing", f.header("typ", nil), token.ReasonType},
		{"RFC 9449 §4.3 no. 4 typ of an access token", f.header("typ", "at+jwt"), token.ReasonType},
		{"RFC 9449 §4.3 no. 4 typ JWT", f.header("typ", "JWT"), token.ReasonType},
		{"RFC 9449 §4.3 no. 5 alg none", tokentest.Encode([]byte(marshal(tokentest.With(f.head, map[string]any{"alg": "none"})))) + "." + parts[1] + ".", m},
		{"RFC 9449 §4.3 no. 5 alg none, signed", f.header("alg", "none"), token.ReasonAlgorithm},
		{"RFC 9449 §4.3 no. 5 a MAC with the public key", macProof(f), token.ReasonAlgorithm},
		{"RFC 9449 §4.3 no. 5 asymmetric and not allowed", rsa.key.Sign(rsa.head, rsa.body), token.ReasonAlgorithm},
		{"RFC 9449 §4.3 no. 5 the alg of another kind of key", f.header("alg", "EdDSA"), m},
		{"RFC 9449 §4.3 no. 5 jwk names another alg", f.jwk(map[string]any{"alg": "ES384"}), m},
		{"RFC 9449 §4.3 no. 6 signed by another key", other.Sign(f.head, f.body), token.ReasonSignature},
		{"RFC 9449 §4.3 no. 6 no signature", parts[0] + "." + parts[1] + ".", m},
		{"RFC 9449 §4.3 no. 6 another payload under the signature", parts[0] + "." + tokentest.Encode([]byte(marshal(tokentest.With(f.body, map[string]any{"jti": "x"})))) + "." + parts[2], token.ReasonSignature},
		{"RFC 9449 §4.3 no. 7 a private key", f.jwk(map[string]any{"d": "AAAA"}), m},
		{"RFC 9449 §4.3 no. 7 a symmetric key", f.header("jwk", map[string]any{"kty": "oct", "k": "AAAA"}), m},
		{"RFC 9449 §4.3 no. 7 a point off the curve", f.jwk(map[string]any{"y": f.head["jwk"].(map[string]any)["x"]}), m},
		{"RFC 9449 §4.3 no. 8 another method", f.claim("htm", "POST"), c},
		{"RFC 9449 §4.3 no. 8 the method in lower case", f.claim("htm", "get"), c},
		{"RFC 9449 §4.3 no. 9 another path", f.claim("htu", "https://api.example/orders/8"), c},
		{"RFC 9449 §4.3 no. 9 the path with a slash at the end", f.claim("htu", proofURL+"/"), c},
		{"RFC 9449 §4.3 no. 9 the path in capitals", f.claim("htu", "https://api.example/ORDERS/7"), c},
		{"RFC 9449 §4.3 no. 9 another host", f.claim("htu", "https://api.example.attacker.example/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 another port", f.claim("htu", "https://api.example:8443/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 http", f.claim("htu", "http://api.example/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 a user", f.claim("htu", "https://api.example@attacker.example/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 our host as a user", f.claim("htu", "https://x@api.example/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 only a path", f.claim("htu", "/orders/7"), c},
		{"RFC 9449 §4.3 no. 9 a backslash", f.claim("htu", `https://api.example\orders/7`), c},
		{"RFC 9449 §4.3 no. 9 another path by dots", f.claim("htu", proofURL+"/../8"), c},
		{"RFC 9449 §4.3 no. 9 an escaped slash is none", f.claim("htu", "https://api.example/orders%2F7"), c},
		{"RFC 9449 §4.3 no. 11 too old", f.claim("iat", testNow.Add(-61*time.Second).Unix()), token.ReasonExpired},
		{"RFC 9449 §4.3 no. 11 in the future", f.claim("iat", testNow.Add(6*time.Second).Unix()), token.ReasonNotYetValid},
		{"RFC 9449 §4.3 no. 11 far in the future", f.claim("iat", 9e9), token.ReasonNotYetValid},
		{"RFC 9449 §4.3 no. 12 ath missing", f.claim("ath", nil), c},
		{"RFC 9449 §4.3 no. 12 ath of another token", f.key.Proof("GET", proofURL, "another", testNow), c},
		{"RFC 9449 §4.3 no. 12 ath padded", f.claim("ath", f.body["ath"].(string)+"="), m},
		{"RFC 7515 §4.1.11 crit", f.header("crit", []string{"x"}), m},
		{"RFC 8725 §3.10 x5c beside jwk", f.header("x5c", []string{"MIIB"}), m},
		{"RFC 8725 §3.10 jku beside jwk", f.header("jku", "https://attacker.example"), m},
	} {
		t.Run(a.clause, func(t *testing.T) {
			proof, err := verifyProof(a.token)
			if err == nil || proof != nil {
				t.Fatalf("accepted")
			}
			if got := reasonOf(t, err); got != a.reason {
				t.Errorf("refused as %q (%v), want %q", got, err, a.reason)
			}
		})
	}
}

// macProof is a proof whose MAC is keyed with what everybody sees.
func macProof(f proofForger) string {
	head := tokentest.With(f.head, map[string]any{"alg": "HS256"})
	input := tokentest.Encode([]byte(marshal(head))) + "." + tokentest.Encode([]byte(marshal(f.body)))
	mac := hmac.New(sha256.New, []byte(marshal(f.head["jwk"])))
	mac.Write([]byte(input))
	return input + "." + tokentest.Encode(mac.Sum(nil))
}

// The rows above prove something only where good proofs are accepted.
func TestGoodProofs(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA", "PS256"} {
		f := newProofForger(alg)
		for name, text := range map[string]string{
			"plain":                         f.key.Sign(f.head, f.body),
			"with a nonce":                  f.claim("nonce", "n-1"),
			"as old as may be":              f.claim("iat", testNow.Add(-time.Minute).Unix()),
			"from a clock ahead":            f.claim("iat", testNow.Add(5*time.Second).Unix()),
			"with a query of its own":       f.claim("htu", proofURL+"?limit=5"),
			"host in capitals":              f.claim("htu", "HTTPS://API.example/orders/7"),
			"with the port of the scheme":   f.claim("htu", "https://api.example:443/orders/7"),
			"with needless escapes":         f.claim("htu", "https://api.example/%6frders/%37"),
			"with dots in the path":         f.claim("htu", "https://api.example/x/../orders/./7"),
			"with more members":             f.header("kid", "x"),
			"with a jwk that names its use": f.jwk(map[string]any{"use": "sig", "alg": alg, "kid": "k"}),
		} {
			proof, err := verifyProof(text)
			if err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
				continue
			}
			if proof.Thumbprint() != f.key.Thumbprint() || proof.ID() != f.body["jti"] {
				t.Errorf("%s %s: thumbprint %q, jti %q", alg, name, proof.Thumbprint(), proof.ID())
			}
			if !proof.Proves(token.Confirmation{KeyThumbprint: f.key.Thumbprint()}) {
				t.Errorf("%s %s: does not prove its own key", alg, name)
			}
			for _, c := range []token.Confirmation{{}, {KeyThumbprint: tokentest.NewKey("ES256").Thumbprint()}, {CertificateThumbprint: f.key.Thumbprint()}} {
				if proof.Proves(c) {
					t.Errorf("%s %s: proves %+v", alg, name, c)
				}
			}
		}
	}
	if nonce := must(verifyProof(newProofForger("ES256").claim("nonce", "n-1"))).Nonce(); nonce != "n-1" {
		t.Errorf("the nonce is %q", nonce)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
