package token_test

import (
	"context"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// BenchmarkNew is the cost of a token that was not seen before.
func BenchmarkNew(b *testing.B) {
	for _, alg := range token.Algorithms() {
		b.Run(string(alg), func(b *testing.B) {
			key := tokentest.NewKey(string(alg))
			v := newVerifier(b, key)
			text := key.Sign(key.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow))
			b.ReportAllocs()
			for b.Loop() {
				u, err := token.Parse(text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.Verify(context.Background(), u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParse is the part of it that is not the signature.
func BenchmarkParse(b *testing.B) {
	key := tokentest.NewKey("ES256")
	text := key.Sign(key.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCached is the cost of a token that was seen before.
func BenchmarkCached(b *testing.B) {
	key := tokentest.NewKey("ES256")
	v := newVerifier(b, key)
	cache := newCache(b, 64<<20)
	text := key.Sign(key.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow))
	cache.Put(v, mustVerify(b, v, text))
	find := func(string) *token.Verifier { return v }
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := cache.Get(text, find); !ok {
				b.Fatal("the token is not in the cache")
			}
		}
	})
}

// BenchmarkRaw is what a policy that reads all claims costs more.
func BenchmarkRaw(b *testing.B) {
	key := tokentest.NewKey("ES256")
	v := newVerifier(b, key)
	claims := mustVerify(b, v, key.Sign(key.Header(), tokentest.UserClaims(testIssuer, testAudience, testNow)))
	b.ReportAllocs()
	for b.Loop() {
		claims.Raw()
	}
}
