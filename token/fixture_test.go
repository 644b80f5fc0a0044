package token_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const (
	testIssuer   = "https://issuer.example"
	testAudience = "https://orders.example"
	testSkew     = 30 * time.Second
	testLifetime = 10 * time.Minute
)

var testNow = time.Unix(1_800_000_000, 0).UTC()

// clock is a time that tests move.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(testNow.UnixMicro())
	return c
}

func (c *clock) now() time.Time { return time.UnixMicro(c.micros.Load()).UTC() }

func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

func keySet(t testing.TB, keys ...*tokentest.Key) *token.KeySet {
	t.Helper()
	ks, err := token.ParseKeySet(tokentest.JWKS(keys...), token.Algorithms())
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

// config accepts tokens of the keys at testNow.
func config(t testing.TB, keys ...*tokentest.Key) token.VerifierConfig {
	t.Helper()
	ks := keySet(t, keys...)
	return token.VerifierConfig{
		Issuer: testIssuer, Algorithms: token.Algorithms(), Skew: testSkew, MaxLifetime: testLifetime,
		Now:  func() time.Time { return testNow },
		Keys: func() *token.KeySet { return ks },
	}
}

func newVerifier(t testing.TB, keys ...*tokentest.Key) *token.Verifier {
	t.Helper()
	return verifierOf(t, config(t, keys...))
}

func verifierOf(t testing.TB, c token.VerifierConfig) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newCache(t testing.TB, bytes int64) *token.Cache {
	t.Helper()
	c, err := token.NewCache(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verify is the whole way of a token.
func verify(v *token.Verifier, text string) (*token.Claims, error) {
	u, err := token.Parse(text)
	if err != nil {
		return nil, err
	}
	return v.Verify(context.Background(), u)
}

func mustVerify(t testing.TB, v *token.Verifier, text string) *token.Claims {
	t.Helper()
	claims, err := verify(v, text)
	if err != nil {
		t.Fatalf("verifying a good token: %v", err)
	}
	return claims
}

// reasonOf fails the test on an error that is no *token.Error.
func reasonOf(t testing.TB, err error) token.Reason {
	t.Helper()
	var refusal *token.Error
	if !errors.As(err, &refusal) || refusal.Reason == "" || refusal.Error() == "" {
		t.Fatalf("the error %v (%T) is no *token.Error with a reason", err, err)
	}
	return refusal.Reason
}
