package token_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func newAssertionKey(t testing.TB) *token.AssertionKey {
	t.Helper()
	k, err := token.NewAssertionKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func verifierOfKey(t testing.TB, key *token.AssertionKey) *token.AssertionVerifier {
	t.Helper()
	set := token.ParseAssertionKeys([][]byte{key.JWK()})
	if set.Len() != 1 {
		t.Fatal(set.Notes())
	}
	v, err := token.NewAssertionVerifier(token.AssertionConfig{Issuer: testAuthz, Now: func() time.Time { return testNow }, Keys: func() *token.KeySet { return set }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func content(actors ...string) token.AssertionContent {
	return token.AssertionContent{
		Issuer: testAuthz, Audience: testOrders, Transaction: "req-1", Requester: testEdge,
		Actors: actors, Scopes: []string{"read:orders"}, IssuedAt: testNow,
	}
}

// TestAssertionRoundTrip: what is signed is what the verifier reads, along a
// chain too.
func TestAssertionRoundTrip(t *testing.T) {
	issuer := tokentest.NewKey("ES256")
	origin := mustVerify(t, newVerifier(t, issuer), issuer.Sign(issuer.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow)))
	key := newAssertionKey(t)
	v := verifierOfKey(t, key)
	for range 2 { // the second is made from the first
		text, ends, err := key.Sign(origin, content("spiffe://a/service/b", "spiffe://a/service/c"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := v.Verify(text, testOrders)
		if err != nil {
			t.Fatal(err)
		}
		if a.Subject() != "usr_anna" || a.SubjectType() != "user" || a.ClientID() != "web" || !slices.Equal(a.Roles(), []string{"customer"}) ||
			!slices.Equal(a.Scopes(), []string{"read:orders"}) || a.TokenIssuer() != testIssuer || a.Transaction() != "req-1" ||
			a.Requester() != testEdge || a.Audience() != testOrders || a.KeyID() != key.ID() ||
			!slices.Equal(a.Actors(), []string{"spiffe://a/service/b", "spiffe://a/service/c"}) {
			t.Errorf("read %+v", a)
		}
		if !a.IssuedAt().Equal(testNow) || !a.ExpiresAt().Equal(testNow.Add(time.Minute)) || !a.ExpiresAt().Equal(ends) {
			t.Errorf("from %s to %s", a.IssuedAt(), a.ExpiresAt())
		}
		c := a.Claims()
		if c.ID() != origin.ID() || c.SessionID() != "ses_1" || c.GrantID() != "grt_1" || c.KeyID() != issuer.ID() || c.Issuer() != testIssuer ||
			!c.IssuedAt().Equal(testNow) || !c.ExpiresAt().Equal(origin.ExpiresAt()) || !slices.Equal(c.Audience(), []string{testOrders}) {
			t.Errorf("of the token: %+v", c)
		}
		origin = c
	}
}

// TestAssertionKeepsWhatRevokesAndWhoItIs: of a token that was made of another,
// on behalf of a client.
func TestAssertionKeepsWhatRevokesAndWhoItIs(t *testing.T) {
	issuer, key := tokentest.NewKey("ES256"), newAssertionKey(t)
	body := tokentest.With(tokentest.Claims(testIssuer, testAudience, testNow), map[string]any{
		"sub": "robot", "subject_type": "client", "derived_from": []any{parent(nil)},
	})
	origin := mustVerify(t, newVerifier(t, issuer), issuer.Sign(issuer.Header(), body))
	text, _, err := key.Sign(origin, content())
	if err != nil {
		t.Fatal(err)
	}
	a, err := verifierOfKey(t, key).Verify(text, testOrders)
	if err != nil || a.SubjectType() != token.SubjectClient || len(origin.Ancestors()) != 1 || !slices.Equal(a.Claims().Ancestors(), origin.Ancestors()) {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAssertionNeverOutlivesItsToken(t *testing.T) {
	issuer, key := tokentest.NewKey("ES256"), newAssertionKey(t)
	sign := func(left time.Duration) (time.Time, error) {
		claims := tokentest.With(tokentest.UserClaims(testIssuer, testAudience, testNow), map[string]any{"exp": testNow.Add(left).Unix(), "iat": testNow.Unix() - 60})
		_, ends, err := key.Sign(mustVerify(t, newVerifier(t, issuer), issuer.Sign(issuer.Header(), claims)), content())
		return ends, err
	}
	if ends, err := sign(20 * time.Second); err != nil || !ends.Equal(testNow.Add(20*time.Second)) {
		t.Errorf("20 s left: until %s, %v", ends, err)
	}
	if _, err := sign(-time.Second); !errors.Is(err, token.ErrNoLife) {
		t.Errorf("ended, within the skew: %v", err)
	}
}

func TestAssertionIsBounded(t *testing.T) {
	issuer, key := tokentest.NewKey("ES256"), newAssertionKey(t)
	claims := tokentest.With(tokentest.UserClaims(testIssuer, testAudience, testNow), map[string]any{"roles": many(30, 150)})
	origin := mustVerify(t, newVerifier(t, issuer), issuer.Sign(issuer.Header(), claims))
	c := content()
	c.Requester += strings.Repeat("x", 2000)
	if _, _, err := key.Sign(origin, c); !errors.Is(err, token.ErrTooLong) {
		t.Errorf("got %v", err)
	}
}

func many(n, length int) (texts []string) {
	for i := range n {
		texts = append(texts, strings.Repeat(string(rune('A'+i)), length))
	}
	return texts
}

func TestParseAssertionKeys(t *testing.T) {
	a, b := tokentest.NewKey("EdDSA"), tokentest.NewKey("EdDSA")
	jwk := func(k *tokentest.Key) []byte { return []byte(marshal(k.JWK())) }
	set := token.ParseAssertionKeys([][]byte{
		jwk(a), jwk(a), jwk(b.WithID(a.ID())), jwk(tokentest.NewKey("ES256")), []byte("{"), nil, jwk(b),
		[]byte(marshal(tokentest.With(a.JWK(), map[string]any{"d": "x"}))),
	})
	want := []string{a.ID(), b.ID()}
	slices.Sort(want)
	if !slices.Equal(set.IDs(), want) || len(set.Notes()) != 5 {
		t.Errorf("took %q, left out %q", set.IDs(), set.Notes())
	}
	if key, _ := set.Lookup(a.ID()); key.Thumbprint() != a.Thumbprint() {
		t.Error("a key took another's place")
	}
}

// FuzzAssertion: what is accepted under a key that is nobody's is nothing.
func FuzzAssertion(f *testing.F) {
	forged := newAssertionForger()
	for _, a := range assertionAttacks(forged) {
		f.Add(a.token)
	}
	f.Add(forged.good())
	v := assertionVerifier(f, func() time.Time { return testNow }, tokentest.NewKey("EdDSA").WithID(forged.key.ID()))
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := v.Verify(text, testOrders); err == nil || a != nil {
			t.Fatalf("%q was accepted: %+v, %v", text, a, err)
		}
	})
}

func BenchmarkAssertion(b *testing.B) {
	issuer, key := tokentest.NewKey("ES256"), newAssertionKey(b)
	origin := mustVerify(b, newVerifier(b, issuer), issuer.Sign(issuer.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow)))
	text, _, err := key.Sign(origin, content())
	if err != nil {
		b.Fatal(err)
	}
	v := verifierOfKey(b, key)
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			key.Sign(origin, content())
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			v.Verify(text, testOrders)
		}
	})
}
