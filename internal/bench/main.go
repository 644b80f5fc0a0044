// Command bench measures what Gatehouse costs, side by side in one run with the
// least that the same work can cost: a Check against a gRPC server that answers
// OK to everything, a token against an HTTP server that only signs and commits.
// Each server is a process of its own; its CPU time is read from the kernel
// around every round, the rounds of the contestants alternate, and a figure is
// the median of the rounds' ratios.
//
//	go run ./internal/bench -gatehouse bin/gatehouse -write docs/performance.md
//
// It ends with one line a figure: FIGURE <name> <value> <goal> ok|short.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
)

func main() {
	var o options
	flag.StringVar(&o.gatehouse, "gatehouse", "bin/gatehouse", "the gatehouse binary to measure")
	flag.StringVar(&o.write, "write", "", "write the results to this Markdown page")
	flag.StringVar(&o.only, "only", "", "measure checks, tokens or database alone")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each contestant")
	flag.IntVar(&o.checks, "checks", 8000, "checks in a round")
	flag.IntVar(&o.tokens, "tokens", 2000, "tokens in a round")
	flag.IntVar(&o.million, "million", 1_000_000, "tokens whose database is measured")
	empty := flag.String("serve-empty", "", "serve the empty contestant on this Unix socket (used by the bench itself)")
	bare := flag.String("serve-bare", "", "serve the bare contestant at this address (used by the bench itself)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := func() error { return bench(ctx, o) }
	switch {
	case *empty != "":
		run = func() error { return serveEmpty(ctx, *empty) }
	case *bare != "":
		run = func() error { return serveBare(ctx, *bare) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	gatehouse, write, only          string
	rounds, checks, tokens, million int
}

// part is one of the things that are measured: its piece of the page, and its
// figures.
type part struct {
	name    string
	measure func(context.Context, options) (text string, figures []figure, err error)
}

var parts = []part{{"checks", benchChecks}, {"tokens", benchTokens}, {"database", benchDatabase}}

// figure is a line at the end, with its goal: at most that much, or at least
// where atLeast.
type figure struct {
	name        string
	value, goal float64
	atLeast     bool
}

func (f figure) String() string {
	verdict := "ok"
	if f.atLeast == (f.value < f.goal) && f.value != f.goal {
		verdict = "short"
	}
	return fmt.Sprintf("FIGURE %s %.2f %.2f %s\n", f.name, f.value, f.goal, verdict)
}

func bench(ctx context.Context, o options) error {
	var page, figures strings.Builder
	fmt.Fprintf(&page, `# Performance

Written by `+"`make bench`"+` on %d cores shared with the load, %s: %d rounds a
contestant, alternating. CPU is the server process's own; a ratio is taken round
by round, and its median counts.
`, runtime.NumCPU(), runtime.Version(), o.rounds)
	for _, p := range parts {
		if o.only != "" && o.only != p.name {
			continue
		}
		text, found, err := p.measure(ctx, o)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", p.name, err)
		}
		page.WriteString("\n" + text)
		for _, f := range found {
			figures.WriteString(f.String())
		}
	}
	fmt.Fprintf(&page, "\n```\n%s```\n", figures.String())
	fmt.Print(page.String())
	if o.write == "" {
		return nil
	}
	if err := os.WriteFile(o.write, []byte(page.String()), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}
