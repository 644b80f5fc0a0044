package token_test

import (
	"context"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// The whole way of a token: keys, verifier, and a cache in front of both.
func Example() {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	issuer := tokentest.NewKey("ES256")
	bearer := issuer.Sign(issuer.Header(), tokentest.UserClaims("https://issuer.example", "https://orders.example", now()))

	// In production a Remote has the keys: Keys: remote.Keys.
	keys, err := token.ParseKeySet(tokentest.JWKS(issuer), []token.Algorithm{token.ES256})
	if err != nil {
		panic(err)
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: "https://issuer.example", Algorithms: []token.Algorithm{token.ES256},
		Skew: 30 * time.Second, MaxLifetime: 10 * time.Minute,
		Now: now, Keys: func() *token.KeySet { return keys },
	})
	if err != nil {
		panic(err)
	}
	cache, err := token.NewCache(64 << 20)
	if err != nil {
		panic(err)
	}

	check := func(bearer string) (*token.Claims, error) {
		byIssuer := func(string) *token.Verifier { return verifier }
		if claims, ok := cache.Get(bearer, byIssuer); ok {
			return claims, nil
		}
		unverified, err := token.Parse(bearer)
		if err != nil {
			return nil, err
		}
		claims, err := verifier.Verify(context.Background(), unverified)
		if err != nil {
			return nil, err
		}
		cache.Put(verifier, claims)
		return claims, nil
	}

	claims, err := check(bearer)
	fmt.Println(claims.Subject(), claims.Scopes(), claims.HasAudience("https://orders.example"), err)
	_, err = check(bearer[:len(bearer)-4] + "AAAA")
	fmt.Println(token.ReasonOf(err))
	// Output:
	// usr_anna [read:orders write:orders] true <nil>
	// signature
}
