package ratelimit

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxLate is how many decisions in a row may be late before Redis counts as out
// of reach: one alone says that a machine was busy.
const maxLate = 3

// probeEvery is how often a Redis that is out of reach is asked whether it is
// back.
const probeEvery = 250 * time.Millisecond

// shared is what fallback needs of Redis.
type shared interface {
	Counters
	ping(context.Context) error
}

// fallback counts in Redis and, while that is out of reach, in this process: its
// own part of each limit, so that all gateways together stay near it.
type fallback struct {
	redis    shared
	local    *Memory
	replicas int64
	timeout  time.Duration
	logger   *slog.Logger
	lost     prometheus.Counter

	down atomic.Bool
	late atomic.Int64 // decisions in a row
}

// Take implements Counters; it never fails.
func (f *fallback) Take(ctx context.Context, now time.Time, demands []Demand) ([]Outcome, error) {
	if !f.down.Load() {
		bounded, cancel := context.WithTimeout(ctx, f.timeout)
		outcomes, err := f.redis.Take(bounded, now, demands)
		cancel()
		if err == nil {
			f.late.Store(0)
			return outcomes, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err() // nobody waits for the answer any more
		}
		if !isLate(err) || f.late.Add(1) >= maxLate {
			f.lose(err)
		}
	}
	return f.local.Take(ctx, now, f.parts(demands))
}

// isLate tells a Redis that is slow from one that is gone.
func isLate(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout()
}

// lose says once that Redis is out of reach.
func (f *fallback) lose(err error) {
	if f.down.CompareAndSwap(false, true) {
		f.lost.Inc()
		f.logger.Error("Redis is out of reach: counting this gateway's part of each limit in this process", "error", err, "replicas", f.replicas)
	}
}

// parts are this process's part of each limit, at least one request.
func (f *fallback) parts(demands []Demand) []Demand {
	parts := make([]Demand, len(demands))
	for i, d := range demands {
		d.Limit = max(1, d.Limit/f.replicas)
		d.Per *= time.Duration(f.replicas)
		parts[i] = d
	}
	return parts
}

// List implements Counters.
func (f *fallback) List(ctx context.Context, now time.Time, prefix string, max int) ([]Stored, error) {
	if f.down.Load() {
		return f.local.List(ctx, now, prefix, max)
	}
	return f.redis.List(ctx, now, prefix, max)
}

// run asks a lost Redis whether it is back, until ctx ends.
func (f *fallback) run(ctx context.Context) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if f.down.Load() {
			f.probe(ctx)
		}
	}
}

func (f *fallback) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if f.redis.ping(ctx) == nil && f.down.CompareAndSwap(true, false) {
		f.late.Store(0)
		f.logger.Info("Redis is back: counting there again")
	}
}
