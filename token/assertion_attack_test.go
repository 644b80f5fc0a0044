package token_test

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const (
	testAuthz  = "spiffe://gatehouse.local/authz"
	testOrders = "spiffe://gatehouse.local/service/orders"
	testEdge   = "spiffe://gatehouse.local/gateway/edge"
)

// assertionForger makes assertions that are wrong in one way.
type assertionForger struct{ forger }

func newAssertionForger() assertionForger {
	key := tokentest.NewKey("EdDSA")
	return assertionForger{forger{
		key: key, head: map[string]any{"alg": "EdDSA", "typ": token.TypeAssertion, "kid": key.ID()},
		body: map[string]any{
			"iss": testAuthz, "aud": testOrders, "iat": testNow.Unix(), "exp": testNow.Add(time.Minute).Unix(),
			"txn": "req-1", "sub": "usr_anna", "client_id": "web", "scope": "read:orders", "roles": []string{"customer"},
			"req_wl": testEdge, "act": map[string]any{"sub": "spiffe://gatehouse.local/service/shop"},
			"tctx": map[string]any{
				"subject_type": "user", "iss": testIssuer, "jti": "jti-1", "sid": "ses_1", "grant_id": "grt_1",
				"kid": "key-1", "iat": testNow.Unix() - 60, "exp": testNow.Add(4 * time.Minute).Unix(),
			},
		},
	}}
}

// origin changes members of tctx; nil removes.
func (f assertionForger) origin(name string, value any) string {
	tctx := f.body["tctx"].(map[string]any)
	return f.claim("tctx", tokentest.With(tctx, map[string]any{name: value}))
}

func assertionVerifier(t testing.TB, now func() time.Time, keys ...*tokentest.Key) *token.AssertionVerifier {
	t.Helper()
	set := keySet(t, keys...)
	v, err := token.NewAssertionVerifier(token.AssertionConfig{Issuer: testAuthz, Skew: testSkew, Now: now, Keys: func() *token.KeySet { return set }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func actors(n int) (act map[string]any) {
	for range n {
		next := map[string]any{"sub": testOrders}
		if act != nil {
			next["act"] = act
		}
		act = next
	}
	return act
}

func assertionAttacks(f assertionForger) []attack {
	header, payload, _ := f.parts()
	retired := tokentest.NewKey("EdDSA")
	access := tokentest.NewKey("ES256")
	later := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	rows := []attack{
		{"another service (RFC 7519 §4.1.3)", f.claim("aud", "spiffe://gatehouse.local/service/profile"), token.ReasonAudience},
		{"aud is an array (one service)", f.claim("aud", []string{testOrders}), token.ReasonMalformed},
		{"expired (RFC 7519 §4.1.4)", f.claims(map[string]any{"iat": later(-91 * time.Second), "exp": later(-31 * time.Second)}), token.ReasonExpired},
		{"from the future (RFC 7519 §4.1.6)", f.claims(map[string]any{"iat": later(31 * time.Second), "exp": later(time.Minute)}), token.ReasonNotYetValid},
		{"longer than 60 s", f.claim("exp", later(61*time.Second)), token.ReasonLifetime},
		{"ends before it begins", f.claim("exp", later(0)), token.ReasonLifetime},
		{"outlives its token", f.origin("exp", later(59*time.Second)), token.ReasonLifetime},
		{"unsigned (RFC 7515 appendix A.5)", header + "." + payload + ".", token.ReasonMalformed},
		{"alg none (RFC 8725 §3.2)", f.header(map[string]any{"alg": "none"}), token.ReasonAlgorithm},
		{"alg HS256 (RFC 8725 §2.1)", f.header(map[string]any{"alg": "HS256"}), token.ReasonAlgorithm},
		{"alg ES256 (RFC 8725 §3.1)", f.header(map[string]any{"alg": "ES256"}), token.ReasonAlgorithm},
		{"a retired or unknown key", retired.Sign(tokentest.With(f.head, map[string]any{"kid": retired.ID()}), f.body), token.ReasonUnknownKey},
		{"another key under a known kid", retired.Sign(f.head, f.body), token.ReasonSignature},
		{"an altered signature", f.signed(func(s []byte) []byte { s[3] ^= 1; return s }), token.ReasonSignature},
		{"a signature cut short (RFC 8032 §5.1.6)", f.signed(func(s []byte) []byte { return s[:63] }), token.ReasonSignature},
		{"an access token in its place (RFC 8725 §3.11)", access.Sign(access.Header(), tokentest.UserClaims(testIssuer, testOrders, testNow)), token.ReasonType},
		{"an access token's typ", f.header(map[string]any{"typ": "at+jwt"}), token.ReasonType},
		{"typ in capitals", f.header(map[string]any{"typ": strings.ToUpper(token.TypeAssertion)}), token.ReasonType},
		{"typ as a media type", f.header(map[string]any{"typ": "application/" + token.TypeAssertion}), token.ReasonType},
		{"a Transaction Token's typ", f.header(map[string]any{"typ": "txntoken+jwt"}), token.ReasonType},
		{"no typ", f.header(map[string]any{"typ": nil}), token.ReasonMalformed},
		{"no kid", f.header(map[string]any{"kid": nil}), token.ReasonMalformed},
		{"crit (RFC 7515 §4.1.11)", f.header(map[string]any{"crit": []string{"exp"}}), token.ReasonMalformed},
		{"jwk (RFC 8725 §3.10)", f.header(map[string]any{"jwk": f.key.JWK()}), token.ReasonMalformed},
		{"another trust domain's authorizer", f.claim("iss", "spiffe://evil.local/authz"), token.ReasonIssuer},
		{"oversize", f.claim("pad", strings.Repeat("x", token.MaxSize)), token.ReasonMalformed},
		{"a claim twice (RFC 7519 §4)", f.bodyText(`"sub":"usr_eve"`), token.ReasonMalformed},
		{"a member of tctx twice", f.claimText("tctx", `{"jti":"a","jti":"b"}`), token.ReasonMalformed},
		{"the actor twice", f.claimText("act", `{"sub":"spiffe://a/b","sub":"spiffe://a/c"}`), token.ReasonMalformed},
		{"too many actors (RFC 8693 §4.1)", f.claim("act", actors(token.MaxActors+1)), token.ReasonMalformed},
		{"an actor without a name", f.claim("act", map[string]any{"act": actors(1)}), token.ReasonMalformed},
		{"an actor that is no workload", f.claim("act", map[string]any{"sub": "usr_anna"}), token.ReasonMalformed},
		{"an actor that is a string", f.claim("act", testOrders), token.ReasonMalformed},
		{"a requester that is no workload", f.claim("req_wl", "orders"), token.ReasonMalformed},
		{"subject_type that sub contradicts", f.origin("subject_type", "client"), token.ReasonClaim},
		{"an ancestor that cannot be revoked", f.origin("derived_from", []any{parent(map[string]any{"jti": nil})}), token.ReasonMalformed},
		{"cnf", f.claim("cnf", map[string]any{"jkt": "x"}), token.ReasonMalformed},
		{"nbf", f.claim("nbf", testNow.Unix()), token.ReasonMalformed},
		{"a scope twice", f.claim("scope", "a a"), token.ReasonMalformed},
		{"tctx is a string", f.claim("tctx", "x"), token.ReasonMalformed},
		{"a line break after", f.good() + "\n", token.ReasonMalformed},
		{"the JSON serialization (RFC 7515 §7.2)", `{"payload":"` + payload + `"}`, token.ReasonMalformed},
	}
	for _, name := range []string{"aud", "txn", "req_wl", "iat", "exp", "sub", "client_id", "tctx"} {
		rows = append(rows, attack{"no " + name, f.claim(name, nil), token.ReasonClaim})
	}
	for _, name := range []string{"iss", "jti", "kid", "iat", "exp", "subject_type"} {
		rows = append(rows, attack{"no tctx." + name, f.origin(name, nil), token.ReasonClaim})
	}
	return append(rows, attack{"no iss", f.claim("iss", nil), token.ReasonIssuer})
}

func TestAssertionAttacks(t *testing.T) {
	f := newAssertionForger()
	v := assertionVerifier(t, func() time.Time { return testNow }, f.key)
	if _, err := v.Verify(f.good(), testOrders); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	if _, err := v.Verify(f.claim("act", actors(token.MaxActors)), testOrders); err != nil {
		t.Fatalf("as many actors as may be: %v", err)
	}
	for _, a := range assertionAttacks(f) {
		t.Run(a.clause, func(t *testing.T) {
			got, err := v.Verify(a.token, testOrders)
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			if reason := reasonOf(t, err); reason != a.reason {
				t.Errorf("refused as %q (%v), want %q", reason, err, a.reason)
			}
		})
	}
	if _, err := v.Verify(f.claim("aud", nil), ""); token.ReasonOf(err) != token.ReasonClaim {
		t.Errorf("no audience on either side: %v", err)
	}
}

// TestAssertionIsNoAccessToken: even with the access token's issuer, key,
// algorithm and audience all fitting, its typ keeps it out.
func TestAssertionIsNoAccessToken(t *testing.T) {
	f := newAssertionForger()
	v := newVerifier(t, f.key)
	body := tokentest.With(f.body, map[string]any{"iss": testIssuer, "jti": "x"})
	if _, err := verify(v, f.key.Sign(tokentest.With(f.head, map[string]any{"typ": "at+jwt"}), body)); err != nil {
		t.Fatalf("but for its typ it would not even fit: %v", err)
	}
	if _, err := verify(v, f.key.Sign(f.head, body)); token.ReasonOf(err) != token.ReasonType {
		t.Errorf("got %v, want refused by type", err)
	}
}

func TestAssertionRecheck(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	set := keySet(t, f.key)
	v, err := token.NewAssertionVerifier(token.AssertionConfig{Issuer: testAuthz, Skew: testSkew, Now: clock.now, Keys: func() *token.KeySet { return set }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Verify(f.good(), testOrders)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, audience string, want token.Reason) {
		t.Helper()
		if err := v.Recheck(a, audience); token.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	expect("at once", testOrders, "")
	expect("for another service", testEdge, token.ReasonAudience)
	set = keySet(t, tokentest.NewKey("EdDSA"))
	expect("with its key withdrawn", testOrders, token.ReasonUnknownKey)
	set = keySet(t, tokentest.NewKey("EdDSA").WithID(f.key.ID()))
	expect("with another key of that kid", testOrders, token.ReasonUnknownKey)
	set = nil
	expect("without keys", testOrders, token.ReasonKeysUnavailable)
	set = keySet(t, f.key)
	clock.advance(time.Minute + testSkew - time.Millisecond)
	expect("at its end", testOrders, "")
	clock.advance(time.Millisecond)
	expect("after its end", testOrders, token.ReasonExpired)
	if err := v.Recheck(&token.Assertion{}, ""); err == nil {
		t.Error("an assertion that nobody verified was accepted")
	}
}
