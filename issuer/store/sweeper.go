package store

import (
	"context"
	"log/slog"
	"time"
)

const (
	sweepEvery = time.Minute
	// sweepStep bounds one transaction, so that nobody waits long behind it.
	sweepStep = 500
)

// Sweeper removes what has expired, in bounded steps.
type Sweeper struct {
	store  Store
	logger *slog.Logger
}

// NewSweeper makes a Sweeper for a store.
func NewSweeper(s Store, logger *slog.Logger) *Sweeper { return &Sweeper{store: s, logger: logger} }

// Run sweeps once a minute until ctx ends. A failed sweep is logged and tried
// again: what has expired is refused whether it is there or not.
func (s *Sweeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context) {
	total := 0
	for ctx.Err() == nil {
		removed, more, err := s.store.Sweep(ctx, sweepStep)
		if err != nil && ctx.Err() == nil {
			s.logger.Error("sweeping expired records failed", "error", err)
		}
		total += removed
		if err != nil || !more {
			break
		}
	}
	if total > 0 {
		s.logger.Debug("swept expired records", "removed", total)
	}
}
