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
	// summaryEvery is how often what was only counted is entered as a number.
	summaryEvery = time.Minute
)

// Names of the events that tell of what was only counted.
const (
	// EventSuppressed: so many events went beyond their budget (limits.go).
	EventSuppressed = "audit.suppressed"
	// EventRepeated: so many used codes came that had come again before.
	EventRepeated = "token.replay_repeated"
)

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

	limits *limits

	mu    sync.Mutex
	queue []store.Event
	// suppressed and repeated were counted since the last summary.
	suppressed, repeated int
	wake                 chan struct{}
}

// New makes a Recorder.
func New(d Deps) (*Recorder, error) {
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering the audit log's metrics: %w", err)
	}
	return &Recorder{
		deps: d, metrics: m, watch: newWatch(), limits: newLimits(), wake: make(chan struct{}, 1),
	}, nil
}

// Record takes an event of a caller who proved themselves. It never waits: an
// event that finds the queue full is counted and lost.
func (r *Recorder) Record(e store.Event) { r.take(e, func(store.Event) bool { return true }) }

// RecordRefusal takes a refusal of a client that proved itself.
func (r *Recorder) RecordRefusal(e store.Event) { r.take(e, r.limits.refusal) }

// RecordStranger takes an event of a caller who did not prove themselves.
func (r *Recorder) RecordStranger(e store.Event) { r.take(e, r.limits.stranger) }

// Watch only looks at an event that the store has recorded itself.
func (r *Recorder) Watch(e store.Event) {
	e.At = r.deps.Now().UTC()
	for _, found := range r.watch.look(e) {
		r.report(found)
	}
}

// Repeated counts what came again and was recorded before.
func (r *Recorder) Repeated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repeated++
}

// take enters an event that its budget allows, and counts others.
func (r *Recorder) take(e store.Event, allowed func(store.Event) bool) {
	e.At = r.deps.Now().UTC()
	r.Watch(e)
	r.enter(e, allowed(e))
}

func (r *Recorder) enter(e store.Event, allowed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !allowed:
		r.suppressed++
		r.metrics.lost.WithLabelValues("suppressed").Inc()
	case len(r.queue) >= maxQueue:
		r.metrics.lost.WithLabelValues("overflow").Inc()
	default:
		r.queue = append(r.queue, e)
		r.nudge()
	}
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
	r.enter(e, r.limits.anomaly(e))
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
	summary := time.NewTicker(summaryEvery)
	defer summary.Stop()
	for {
		write := r.write
		select {
		case <-ctx.Done():
			return r.Flush(context.WithoutCancel(ctx))
		case <-summary.C:
			write = r.Flush
		case <-r.wake:
			pause := time.NewTimer(flushEvery)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
		if err := write(context.WithoutCancel(ctx)); err != nil {
			r.deps.Logger.Error("writing to the audit log failed", "error", err)
		}
	}
}

// Flush writes everything that waits, and how much was only counted.
func (r *Recorder) Flush(ctx context.Context) error {
	r.summarise()
	return r.write(ctx)
}

// summarise enters what was counted since it was last entered.
func (r *Recorder) summarise() {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.deps.Now().UTC()
	if r.suppressed > 0 {
		r.queue = append(r.queue, store.Event{Name: EventSuppressed, At: at, Detail: fmt.Sprintf("%d events beyond what their callers may cause", r.suppressed)})
	}
	if r.repeated > 0 {
		r.queue = append(r.queue, store.Event{Name: EventRepeated, Result: store.Failure, At: at, Detail: fmt.Sprintf("%d used codes came once more", r.repeated)})
	}
	r.suppressed, r.repeated = 0, 0
}

// write writes everything that waits.
func (r *Recorder) write(ctx context.Context) error {
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
	size := min(len(r.queue), maxBatch)
	batch := r.queue[:size:size]
	r.queue = r.queue[size:]
	return batch
}
