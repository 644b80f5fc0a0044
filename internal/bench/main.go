// Command bench measures what a Check costs, side by side in one run: the
// authorizer against a gRPC server that answers OK to every Check, which is
// the least that any gRPC authorizer can cost. Each server is a process of its
// own; its CPU time is read from the kernel around every round, the rounds of
// the contestants alternate, and a figure is the median of the rounds' ratios.
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
)

func main() {
	var o options
	flag.StringVar(&o.gatehouse, "gatehouse", "bin/gatehouse", "the gatehouse binary to measure")
	flag.StringVar(&o.write, "write", "", "write the results to this Markdown page")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each contestant")
	flag.IntVar(&o.checks, "checks", 8000, "checks in a round")
	empty := flag.String("serve-empty", "", "serve the empty contestant on this Unix socket (used by the bench itself)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := func() error { return bench(ctx, o) }
	if *empty != "" {
		run = func() error { return serveEmpty(ctx, *empty) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	gatehouse, write string
	rounds, checks   int
}

func bench(ctx context.Context, o options) error {
	site, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer site.close()
	results, err := measure(ctx, site, o)
	if err != nil {
		return err
	}
	page := render(results, o)
	fmt.Print(page)
	if o.write != "" {
		if err := os.WriteFile(o.write, []byte(page), 0o644); err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
	}
	return nil
}
