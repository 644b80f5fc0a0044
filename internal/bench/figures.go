package main

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"time"
)

// workload is one figure: what the authorizer is asked, and its goal as a
// multiple of the empty server's cost.
type workload struct {
	name, what string
	goal       float64
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
		for n := range o.rounds + 1 {
			tokens, err := w.tokens(o.checks)
			if err != nil {
				return nil, err
			}
			ours, err := round(ctx, s.authz, s.rule, tokens)
			if err != nil {
				return nil, err
			}
			empty, err := round(ctx, s.empty, s.rule, tokens)
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

// render is the page, which ends with the FIGURE lines.
func render(results []result, o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Performance

Written by `+"`make bench`"+`: %d rounds of %d Checks a contestant, alternating, %d at once,
on %d cores shared with the load, %s. CPU is the server process's own; a ratio
is taken round by round, and its median counts.

| workload | ours, CPU per Check | empty gRPC server | ratio (lowest–highest) | goal |
|---|---|---|---|---|
`, o.rounds, o.checks, clients, runtime.NumCPU(), runtime.Version())
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %.0f µs | %.0f µs | %.2f (%s) | ≤ %.2f |\n",
			r.what, median(r.ours), median(r.empty), median(r.ratio), spread(r.ratio), r.goal)
	}
	b.WriteString("\n```\n")
	for _, r := range results {
		verdict := "ok"
		if median(r.ratio) > r.goal {
			verdict = "short"
		}
		fmt.Fprintf(&b, "FIGURE %s %.2f %.2f %s\n", r.name, median(r.ratio), r.goal, verdict)
	}
	b.WriteString("```\n")
	return b.String()
}
