// Package journal brings into the audit log what no transaction of the store
// goes with: logins, refusals, and tokens that need no row. It also watches all
// of it for what an operator should look at (anomaly.go).
//
// Events wait in a bounded queue and are written together, many to one fsync,
// at most flushEvery after they happened: a kill can lose as much. Whatever
// changes the store (grants, refreshes, revocations, administration, keys)
// records itself in its own transaction and cannot get lost.
package journal

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// flushEvery is the longest that an event waits.
	flushEvery = 100 * time.Millisecond
	// maxQueue bounds what waits: some seconds of full load, about 20 MB.
	maxQueue = 65_536
	// maxBatch bounds one transaction.
	maxBatch = 2_048
	// Callers who did not prove themselves can send what they like: of theirs
	// only so many are written, and the others counted, so that nobody fills
	// the disk. At worst it is some 5 GB in 90 days.
	strangersBurst = 600
	strangersEvery = 500 * time.Millisecond
)

// EventSuppressed tells how many events of strangers were not written.
const EventSuppressed = "audit.suppressed"

// Deps are what a Recorder works with.
type Deps struct {
	Store      store.Audit
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Recorder takes events. Run writes them.
type Recorder struct {
	deps    Deps
	metrics *metrics
	watch   *watch

	mu         sync.Mutex
	queue      []store.Event
	tokens     float64 // strangers' budget
	filledAt   time.Time
	suppressed int
	wake       chan struct{}
}

// New makes a Recorder.
func New(d Deps) (*Recorder, error) {
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering the audit log's metrics: %w", err)
	}
	return &Recorder{
		deps: d, metrics: m, watch: newWatch(), tokens: strangersBurst, filledAt: d.Now(), wake: make(chan struct{}, 1),
	}, nil
}

// Record takes an event of a caller who proved themselves. It never waits: an
// event that finds the queue full is counted and lost.
func (r *Recorder) Record(e store.Event) { r.take(e, false) }

// RecordStranger takes an event of a caller who did not.
func (r *Recorder) RecordStranger(e store.Event) { r.take(e, true) }

// Watch only looks at an event that the store has recorded itself.
func (r *Recorder) Watch(e store.Event) {
	e.At = r.deps.Now().UTC()
	for _, found := range r.watch.look(e) {
		r.report(found)
	}
}

func (r *Recorder) take(e store.Event, stranger bool) {
	e.At = r.deps.Now().UTC()
	r.Watch(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case stranger && !r.afford(e.At):
		r.suppressed++
		r.metrics.lost.WithLabelValues("suppressed").Inc()
	case len(r.queue) >= maxQueue:
		r.metrics.lost.WithLabelValues("overflow").Inc()
	default:
		r.queue = append(r.queue, e)
	}
	r.nudge()
}

// afford takes one event from the strangers' budget; the caller holds the lock.
func (r *Recorder) afford(now time.Time) bool {
	if since := now.Sub(r.filledAt); since > 0 {
		r.tokens, r.filledAt = min(strangersBurst, r.tokens+float64(since)/float64(strangersEvery)), now
	}
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

// report tells the operator of an anomaly, and enters it.
func (r *Recorder) report(a anomaly) {
	r.metrics.anomalies.WithLabelValues(a.kind).Inc()
	r.deps.Logger.Warn("something unusual happens", "event", "anomaly", "kind", a.kind, "subject", a.event.Subject,
		"client_id", a.event.Client, "address", a.event.Address, "count", a.count, "within", a.within.String())
	e := store.Event{
		Name: "anomaly." + a.kind, Result: store.Failure, At: a.event.At, Address: a.event.Address, Subject: a.event.Subject,
		Client: a.event.Client, Detail: fmt.Sprintf("%d within %s", a.count, a.within),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) < maxQueue {
		r.queue = append(r.queue, e)
	}
	r.nudge()
}

// nudge tells Run that something waits.
func (r *Recorder) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run writes what was taken until ctx ends, and then what is left.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return r.Flush(context.WithoutCancel(ctx))
		case <-r.wake:
		}
		pause := time.NewTimer(flushEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		if err := r.Flush(context.WithoutCancel(ctx)); err != nil {
			r.deps.Logger.Error("writing to the audit log failed", "error", err)
		}
	}
}

// Flush writes everything that waits.
func (r *Recorder) Flush(ctx context.Context) error {
	for {
		batch := r.batch()
		if len(batch) == 0 {
			return nil
		}
		if err := r.deps.Store.RecordEvents(ctx, batch); err != nil {
			r.metrics.lost.WithLabelValues("failed").Add(float64(len(batch)))
			return fmt.Errorf("recording %d events: %w", len(batch), err)
		}
		r.metrics.written.Add(float64(len(batch)))
	}
}

// batch takes what is due for one transaction out of the queue.
func (r *Recorder) batch() []store.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.suppressed > 0 && len(r.queue) < maxQueue {
		r.queue = append(r.queue, store.Event{
			Name: EventSuppressed, At: r.deps.Now().UTC(), Detail: fmt.Sprintf("%d events of callers who did not prove themselves", r.suppressed),
		})
		r.suppressed = 0
	}
	size := min(len(r.queue), maxBatch)
	batch := r.queue[:size:size]
	r.queue = r.queue[size:]
	return batch
}
