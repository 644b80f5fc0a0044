package workload

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// firstPause and longestPause bound the wait after a failure.
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// renewer keeps a Live's certificate fresh: the next one is obtained at half of
// the present one's life, and for as long as it takes.
type renewer struct {
	live   *Live
	logger *slog.Logger
	now    func() time.Time
	// obtain gets another state, in place of old, which may be nil or over.
	obtain func(ctx context.Context, old *State) (*State, error)
	// keepRoots writes a pushed trust bundle down.
	keepRoots func([]*x509.Certificate) error
	// received is when the present certificate came: it may be dated back.
	received time.Time
	// trouble is why the last try failed; nil: it did not.
	trouble atomic.Pointer[string]
}

// Run renews until ctx ends.
func (r *renewer) Run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		state, changed := r.live.Current()
		wait := r.due(state).Sub(r.now())
		if wait <= 0 {
			if err := r.renew(ctx, state); err == nil {
				pause = firstPause
				continue
			}
			wait, changed = jitter(pause), nil
			pause = r.longer(pause, state)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// due is when the next certificate is wanted: at once where there is none, or
// one that is under none of the roots.
func (r *renewer) due(state *State) time.Time {
	if state == nil || state.verify() != nil {
		return time.Time{}
	}
	life := state.Pair.Leaf.NotAfter.Sub(r.received)
	// Workloads that started together do not renew together.
	spread := time.Duration(new(big.Int).Mod(state.Pair.Leaf.SerialNumber, big.NewInt(1000)).Int64())
	return r.received.Add(life/2 - life/10*spread/1000)
}

func (r *renewer) renew(ctx context.Context, old *State) error {
	pushes := r.live.renewing()
	next, err := r.obtain(ctx, old)
	if err != nil {
		if text := err.Error(); ctx.Err() == nil && (r.trouble.Load() == nil || *r.trouble.Load() != text) {
			r.trouble.Store(&text)
			r.logger.Warn("no new certificate: trying again", "error", err)
		}
		return err
	}
	r.trouble.Store(nil)
	r.received = r.now()
	if kept := r.live.renewed(next, pushes); kept != nil {
		if err := r.keepRoots(kept); err != nil {
			r.logger.Error("keeping the trust bundle", "error", err)
		}
	}
	r.logger.Info("new certificate", "spiffe_id", next.ID, "serial", next.Pair.Leaf.SerialNumber.Text(16), "not_after", next.Pair.Leaf.NotAfter)
	return nil
}

// longer doubles the pause, yet leaves a short life several tries.
func (r *renewer) longer(pause time.Duration, state *State) time.Duration {
	longest := longestPause
	if state != nil {
		life := state.Pair.Leaf.NotAfter.Sub(r.received)
		longest = min(longest, max(life/10, firstPause))
	}
	return min(2*pause, longest)
}

// missing says why there is no certificate that others would take.
func (r *renewer) missing() []string {
	state, _ := r.live.Current()
	if state != nil && r.now().Before(state.Pair.Leaf.NotAfter) {
		return nil
	}
	what := "a certificate"
	if state != nil {
		what += ": the last one ended on " + state.Pair.Leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	if trouble := r.trouble.Load(); trouble != nil {
		what += ": " + *trouble
	}
	return []string{what}
}

// jitter spreads those who lost the same server.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
