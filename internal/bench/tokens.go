package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// parallels are how many clients ask at once.
var parallels = []int{1, 8, 64}

// issuance is one kind of token request.
type issuance struct {
	name, what string
	// bare is the path of the bare server that does the same.
	bare string
	// goalCPU is the most CPU that a token may cost, in ms.
	goalCPU float64
}

var issuances = []issuance{
	{"client_credentials", "client_credentials, ES256", "/sign", 0.15},
	{"refresh", "refresh, ES256", "/refresh", 0.3},
}

// goalRate is the least part of the bare server's rate.
const goalRate = 0.7

// tokenResult is an issuance at some parallelism, round by round.
type tokenResult struct {
	issuance
	parallel               int
	rate, bareRate, ratio  []float64 // per second, per second, and their ratios
	cpu, bareCPU, p99, p50 []float64 // ms
}

// benchTokens measures the issuer.
func benchTokens(ctx context.Context, o options) (string, []figure, error) {
	s, err := newTokenSite(ctx, o)
	if err != nil {
		return "", nil, err
	}
	defer s.close()
	var results []tokenResult
	for _, kind := range issuances {
		for _, parallel := range parallels {
			r, err := s.measure(ctx, kind, parallel, o)
			if err != nil {
				return "", nil, err
			}
			results = append(results, r)
		}
	}
	text, figures := renderTokens(results, s.readyAfter, s.memory(), o)
	return text, figures, nil
}

// measure runs the rounds of both contestants in turn, after one of each that
// does not count.
func (s *tokenSite) measure(ctx context.Context, kind issuance, parallel int, o options) (r tokenResult, err error) {
	r = tokenResult{issuance: kind, parallel: parallel}
	for n := range o.rounds + 1 {
		ours, err := s.ours.round(ctx, kind, parallel, o.tokens)
		if err != nil {
			return r, fmt.Errorf("%s with %d clients: %w", kind.name, parallel, err)
		}
		bare, err := s.bare.round(ctx, kind, parallel, o.tokens)
		if err != nil {
			return r, fmt.Errorf("the bare %s with %d clients: %w", kind.name, parallel, err)
		}
		if n == 0 {
			continue
		}
		r.rate, r.bareRate = append(r.rate, ours.rate), append(r.bareRate, bare.rate)
		r.ratio = append(r.ratio, ours.rate/bare.rate)
		r.cpu, r.bareCPU = append(r.cpu, ours.cpu), append(r.bareCPU, bare.cpu)
		r.p50, r.p99 = append(r.p50, ours.p50), append(r.p99, ours.p99)
	}
	return r, nil
}

func renderTokens(results []tokenResult, ready time.Duration, memory float64, o options) (string, []figure) {
	var text strings.Builder
	fmt.Fprintf(&text, `## Tokens

%d tokens a round. The bare server parses the form, signs, and for a refresh
commits; the issuer does that, and authenticates, decides, records and verifies
what it signed. The issuer was ready after %d ms, and has %.0f MiB after the run.

| request | clients | per second | bare | ratio (lowest–highest) | CPU per token | bare | p50 | p99 |
|---|---|---|---|---|---|---|---|---|
`, o.tokens, ready.Milliseconds(), memory)
	var figures []figure
	for _, r := range results {
		fmt.Fprintf(&text, "| %s | %d | %.0f | %.0f | %.2f (%s) | %.3f ms | %.3f ms | %.1f ms | %.1f ms |\n",
			r.what, r.parallel, median(r.rate), median(r.bareRate), median(r.ratio), spread(r.ratio),
			median(r.cpu), median(r.bareCPU), median(r.p50), median(r.p99))
		if r.parallel == 8 {
			figures = append(figures,
				figure{name: "issuer_" + r.name + "_rate", value: median(r.ratio), goal: goalRate, atLeast: true},
				figure{name: "issuer_" + r.name + "_cpu_ms", value: median(r.cpu), goal: r.goalCPU})
		}
	}
	return text.String(), append(figures,
		figure{name: "issuer_ready_s", value: ready.Seconds(), goal: 1},
		figure{name: "issuer_memory_mib", value: memory, goal: 100})
}
