package token

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token/tokentest"
)

// FuzzProof: nothing panics, and no proof is accepted whose signed part is not
// byte for byte that of a good one.
func FuzzProof(f *testing.F) {
	key := tokentest.NewKey("EdDSA")
	url := "https://api.example/orders"
	good := key.Proof("GET", url, "", fuzzNow)
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Add(good)
	f.Add(key.SignRaw([]byte(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP"}}`), []byte(`{}`)))
	f.Add("..")
	rules := ProofRules{Algorithms: Algorithms(), MaxAge: time.Minute, Skew: time.Second}
	f.Fuzz(func(t *testing.T, text string) {
		proof, err := VerifyProof(text, ProofRequest{Method: "GET", URLs: []string{url}}, rules, fuzzNow)
		switch {
		case err != nil && (ReasonOf(err) == "" || proof != nil):
			t.Fatalf("the refusal %v has no reason, or a proof with it", err)
		case err == nil && proof.Thumbprint() == key.Thumbprint() && !strings.HasPrefix(text, signed+"."):
			t.Fatalf("accepted %q, which the key did not sign", text)
		}
	})
}

// FuzzURL: what is normalised stays as it is when it is normalised again, and
// never leaves its host.
func FuzzURL(f *testing.F) {
	for _, text := range []string{"https://a/b/../c", "HTTP://A:80", "https://[::1]:8443/%7e", "https://a?b", "https://a/..//.", "http://a/%2e%2e/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, ok := normaliseURL(text)
		if !ok {
			return
		}
		twice, ok := normaliseURL(once)
		if !ok || !sameURL(once, twice) {
			t.Fatalf("%q becomes %q, and that %q", text, once, twice)
		}
		if !strings.HasPrefix(once, "https://") && !strings.HasPrefix(once, "http://") {
			t.Fatalf("%q becomes %q", text, once)
		}
	})
}

// FuzzClientAssertion: nothing panics, and only what the key signed is
// accepted.
func FuzzClientAssertion(f *testing.F) {
	key := tokentest.NewKey("EdDSA")
	keys, err := ParseKeySet(tokentest.JWKS(key), Algorithms())
	if err != nil {
		f.Fatal(err)
	}
	good := key.Sign(key.Header(), tokentest.ClientAssertion("shop", fuzzIssuer, fuzzNow))
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(key.Sign(tokentest.With(key.Header(), map[string]any{"typ": nil, "kid": nil}), tokentest.ClientAssertion("shop", fuzzIssuer, fuzzNow)))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseClientAssertion(text)
		if err != nil {
			return
		}
		err = a.Verify(ClientAssertionRules{ClientID: "shop", Audience: fuzzIssuer, Algorithms: Algorithms(), Keys: keys, Skew: time.Second}, fuzzNow)
		if err != nil && ReasonOf(err) == "" {
			t.Fatalf("the refusal %v has no reason", err)
		}
	})
}
