package token_test

import (
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const otherIssuer = "https://ci.example"

func TestAttacksOnGrantAssertions(t *testing.T) {
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	head := tokentest.With(key.Header(), map[string]any{"typ": "authorization-grant+jwt"})
	body := map[string]any{
		"iss": otherIssuer, "sub": "repo:shop:main", "aud": testIssuer, "jti": "j", "iat": testNow.Unix(), "exp": testNow.Add(5 * time.Minute).Unix(),
	}
	header := func(name string, value any) string {
		return key.Sign(tokentest.With(head, map[string]any{name: value}), body)
	}
	claims := func(changes map[string]any) string { return key.Sign(head, tokentest.With(body, changes)) }
	claim := func(name string, value any) string { return claims(map[string]any{name: value}) }
	rules := token.GrantAssertionRules{
		Issuer: otherIssuer, Audience: testIssuer, Algorithms: []token.Algorithm{token.ES256}, Keys: keySet(t, key), Skew: testSkew, MaxLifetime: 5 * time.Minute,
	}
	verify := func(text string, rules token.GrantAssertionRules) error {
		a, err := token.ParseGrantAssertion(text)
		if err != nil {
			return err
		}
		return a.Verify(rules, testNow)
	}
	for name, good := range map[string]string{
		"as it should be": key.Sign(head, body), "without a typ": header("typ", nil), "with the typ of many": header("typ", "JWT"),
		"without a kid": header("kid", nil), "with claims that nobody knows": claim("repository", "shop"),
	} {
		if err := verify(good, rules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, c := token.ReasonMalformed, token.ReasonClaim
	for _, a := range []attack{
		{"RFC 7523 §3 no. 1 iss is another", claim("iss", testIssuer), token.ReasonIssuer},
		{"RFC 7523 §3 no. 1 iss missing", claim("iss", nil), token.ReasonIssuer},
		{"RFC 7523 §3 no. 2 sub missing", claim("sub", nil), c},
		{"RFC 7523 §3 no. 3 aud missing", claim("aud", nil), c},
		{"RFC 7523 §3 no. 3 aud is another server", claim("aud", "https://other.example"), c},
		{"RFC 7523 §3 no. 3 several audiences", claim("aud", []string{testIssuer, "https://other.example"}), c},
		{"RFC 7523 §3 no. 3 a list of one", claim("aud", []string{testIssuer}), c},
		{"RFC 7523 §3 no. 4 exp missing", claim("exp", nil), c},
		{"RFC 7523 §3 no. 4 expired", claims(map[string]any{"iat": testNow.Add(-time.Minute).Unix(), "exp": testNow.Add(-testSkew).Unix()}), token.ReasonExpired},
		{"RFC 7523 §3 no. 4 good for too long", claim("exp", testNow.Add(5*time.Minute+time.Second).Unix()), token.ReasonLifetime},
		{"RFC 7523 §3 no. 4 exp before iat", claims(map[string]any{"iat": testNow.Add(10 * time.Second).Unix(), "exp": testNow.Add(5 * time.Second).Unix()}), token.ReasonLifetime},
		{"RFC 7523 §3 no. 5 nbf to come", claim("nbf", testNow.Add(testSkew+time.Second).Unix()), token.ReasonNotYetValid},
		{"RFC 7523 §3 no. 6 iat missing", claim("iat", nil), c},
		{"RFC 7523 §3 no. 6 iat to come", claim("iat", testNow.Add(testSkew+time.Second).Unix()), token.ReasonNotYetValid},
		{"RFC 7523 §3 no. 7 jti missing", claim("jti", nil), c},
		{"RFC 7523 §3 no. 9 signed by another key", other.Sign(head, body), token.ReasonSignature},
		{"RFC 7523 §3 no. 9 a kid that the issuer has not", header("kid", "x"), token.ReasonUnknownKey},
		{"RFC 8725 §3.1 alg not allowed", tokentest.NewKey("EdDSA").Sign(tokentest.With(head, map[string]any{"alg": "EdDSA"}), body), token.ReasonAlgorithm},
		{"RFC 8725 §3.1 alg HS256", header("alg", "HS256"), token.ReasonAlgorithm},
		{"RFC 8725 §3.11 an access token", header("typ", "at+jwt"), token.ReasonType},
		{"RFC 8725 §3.11 a client's assertion", header("typ", "client-authentication+jwt"), token.ReasonType},
		{"RFC 8725 §3.10 it brings its own key", header("jwk", key.JWK()), m},
		{"RFC 7515 §4.1.11 crit", header("crit", []string{"x"}), m},
		{"RFC 7519 §4 a claim twice", key.SignRaw([]byte(marshal(head)), []byte(withText(body, `"sub":"x"`))), m},
		{"RFC 7800 §3.1 bound to a key", claim("cnf", map[string]any{"jkt": key.Thumbprint()}), c},
	} {
		t.Run(a.clause, func(t *testing.T) {
			err := verify(a.token, rules)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := reasonOf(t, err); got != a.reason {
				t.Errorf("refused as %q (%v), want %q", got, err, a.reason)
			}
		})
	}
	rules.Keys = nil
	if err := verify(key.Sign(head, body), rules); token.ReasonOf(err) != token.ReasonKeysUnavailable {
		t.Errorf("without keys: %v", err)
	}
}
