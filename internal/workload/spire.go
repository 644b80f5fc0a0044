package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"gatehouse.dev/gatehouse/internal/serve"
)

// spire is a source that SPIRE's agent feeds: the SPIFFE Workload API.
type spire struct {
	source *Source
	id     string
	logger *slog.Logger
	told   atomic.Pointer[string]
}

// NewSPIRE takes the certificate of id, and the bundle of its trust domain, from
// a Workload API on a Unix socket ("unix:PATH"). The agent renews by itself.
func NewSPIRE(socket, id string, deps Deps) *Source {
	deps.complete()
	source := newSource(nil, deps)
	w := &spire{source: source, id: id, logger: deps.Logger}
	address := socket
	if path, ok := serve.UnixPath(socket); ok {
		address = "unix://" + path
	}
	source.run = func(ctx context.Context) error { return w.run(ctx, address) }
	return source
}

// run watches until ctx ends; the client itself reconnects, but for requests
// that the agent calls invalid.
func (w *spire) run(ctx context.Context, address string) error {
	for {
		err := workloadapi.WatchX509Context(ctx, w, workloadapi.WithAddr(address), workloadapi.WithBackoffStrategy(quick{}))
		if ctx.Err() != nil {
			return nil
		}
		w.OnX509ContextWatchError(err)
		timer := time.NewTimer(jitter(longestPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (w *spire) OnX509ContextUpdate(update *workloadapi.X509Context) {
	state, err := w.pick(update)
	if err != nil {
		w.OnX509ContextWatchError(err)
		return
	}
	w.told.Store(nil)
	w.source.renewer.trouble.Store(nil)
	w.source.Set(state)
	w.logger.Info("new certificate", "spiffe_id", state.ID, "serial", state.Pair.Leaf.SerialNumber.Text(16), "not_after", state.Pair.Leaf.NotAfter)
}

// pick is the certificate of this workload among those that the agent offers.
func (w *spire) pick(update *workloadapi.X509Context) (*State, error) {
	var offered []string
	for _, svid := range update.SVIDs {
		offered = append(offered, svid.ID.String())
		if svid.ID.String() != w.id {
			continue
		}
		bundle, err := update.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			return nil, err
		}
		return NewState(svid.Certificates, svid.PrivateKey, bundle.X509Authorities())
	}
	return nil, fmt.Errorf("the SPIRE agent offers %s, not %s: register this workload under that id", strings.Join(offered, ", "), w.id)
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher; what is
// there stays in use.
func (w *spire) OnX509ContextWatchError(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	text := err.Error()
	w.source.renewer.trouble.Store(&text)
	if told := w.told.Swap(&text); told == nil || *told != text {
		w.logger.Warn("SPIRE's Workload API brings no certificate: trying again", "error", err)
	}
}

// quick waits no longer for SPIRE's agent than for our own CA.
type quick struct{}

func (quick) NewBackoff() workloadapi.Backoff { return &pauses{} }

type pauses struct{ pause time.Duration }

// Next implements workloadapi.Backoff.
func (p *pauses) Next() time.Duration {
	p.pause = min(max(2*p.pause, firstPause/4), longestPause)
	return jitter(p.pause)
}

// Reset implements workloadapi.Backoff.
func (p *pauses) Reset() { p.pause = 0 }
