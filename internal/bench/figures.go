package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"
)

// workload is one figure: what the authorizer is asked, and its goal as a
// multiple of the empty server's cost.
type workload struct {
	name, what string
	goal       float64
	// assertionFor is the service that gets an assertion; empty: none does.
	assertionFor string
	// tokens gives a round's tokens, one for each Check.
	tokens func(checks int) ([]string, error)
}

// result is a workload's rounds.
type result struct {
	workload
	ours, empty, ratio []float64 // µs, µs, and the rounds' ratios
}

// measure runs the rounds of the contestants in turn, after one round of each
// that does not count.
func measure(ctx context.Context, s *site, o options) ([]result, error) {
	var results []result
	for _, w := range s.workloads() {
		r := result{workload: w}
		rule, err := s.rule(w.assertionFor)
		if err != nil {
			return nil, err
		}
		for n := range o.rounds + 1 {
			tokens, err := w.tokens(o.checks)
			if err != nil {
				return nil, err
			}
			ours, err := round(ctx, s.authz, rule, tokens)
			if err != nil {
				return nil, err
			}
			empty, err := round(ctx, s.empty, rule, tokens)
			if err != nil {
				return nil, err
			}
			if n > 0 {
				r.ours = append(r.ours, micro(ours))
				r.empty = append(r.empty, micro(empty))
				r.ratio = append(r.ratio, float64(ours)/float64(empty))
			}
		}
		results = append(results, r)
	}
	return results, nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(values []float64) float64 {
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return sorted[len(sorted)/2]
}

func spread(values []float64) string {
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return fmt.Sprintf("%.2f–%.2f", sorted[0], sorted[len(sorted)-1])
}

// benchChecks measures the authorizer.
func benchChecks(ctx context.Context, o options) (string, []figure, error) {
	site, err := newSite(ctx, o)
	if err != nil {
		return "", nil, err
	}
	defer site.close()
	results, err := measure(ctx, site, o)
	if err != nil {
		return "", nil, err
	}
	var text strings.Builder
	fmt.Fprintf(&text, `## Checks

%d Checks a round, %d at once.

| workload | ours, CPU per Check | empty gRPC server | ratio (lowest–highest) | goal |
|---|---|---|---|---|
`, o.checks, clients)
	var figures []figure
	for _, r := range results {
		fmt.Fprintf(&text, "| %s | %.0f µs | %.0f µs | %.2f (%s) | ≤ %.2f |\n",
			r.what, median(r.ours), median(r.empty), median(r.ratio), spread(r.ratio), r.goal)
		figures = append(figures, figure{name: r.name, value: median(r.ratio), goal: r.goal})
	}
	return text.String(), figures, nil
}
