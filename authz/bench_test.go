package authz

import (
	"log/slog"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/token"
)

// BenchmarkCheck is the cost of a decision in the process, without gRPC: of a
// token seen before, and of new ES256 tokens.
func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	w.config.AllowedEvents = "debug"
	w.start()
	w.waitReady()
	w.server.logger = slog.New(slog.DiscardHandler)
	rule := w.rule()
	run := func(b *testing.B, in func(i int) *authv3.CheckRequest) {
		b.ReportAllocs()
		ctx := localContext()
		for i := 0; b.Loop(); i++ {
			if got, _ := w.server.Check(ctx, in(i)); got.GetOkResponse() == nil {
				b.Fatalf("denied: %v", got)
			}
		}
	}
	b.Run("seen", func(b *testing.B) {
		in := checkOf(rule, w.person())
		run(b, func(int) *authv3.CheckRequest { return in })
	})
	b.Run("seen-asserted", func(b *testing.B) {
		in := checkOf(w.rule(toOrders), w.person())
		run(b, func(int) *authv3.CheckRequest { return in })
	})
	b.Run("seen-asserted-each", func(b *testing.B) {
		w.server.assertions.eachRequest = true
		defer func() { w.server.assertions.eachRequest = false }()
		in := checkOf(w.rule(toOrders), w.person())
		run(b, func(int) *authv3.CheckRequest { return in })
	})
	b.Run("new-ES256", func(b *testing.B) {
		// More tokens than the cache holds of any of them by the time it comes
		// around again.
		small, err := token.NewCache(token.MinCacheBytes)
		if err != nil {
			b.Fatal(err)
		}
		w.server.issuers.cache = small
		tokens := make([]*authv3.CheckRequest, 4096)
		for i := range tokens {
			tokens[i] = checkOf(rule, w.person())
		}
		run(b, func(i int) *authv3.CheckRequest { return tokens[i%len(tokens)] })
	})
}
