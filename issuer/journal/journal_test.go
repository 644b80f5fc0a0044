package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// book is an audit log in memory, which fails on demand.
type book struct {
	store.Audit
	batches [][]store.Event
	err     error
}

func (b *book) RecordEvents(_ context.Context, events []store.Event) error {
	if b.err == nil {
		b.batches = append(b.batches, events)
	}
	return b.err
}

func (b *book) names() (names []string) {
	for _, batch := range b.batches {
		for _, e := range batch {
			names = append(names, e.Name)
		}
	}
	return names
}

// counted is a counter's value.
func counted(c prometheus.Collector) float64 {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		panic(fmt.Sprint(families, err))
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func newRecorder(t *testing.T, b store.Audit, now func() time.Time, log *strings.Builder) *Recorder {
	t.Helper()
	r, err := New(Deps{Store: b, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Events are written soon and together, in order, and what waits at the end is
// not lost.
func TestEventsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		r := newRecorder(t, b, time.Now, &strings.Builder{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		for i := range 5 {
			r.Record(store.Event{Name: fmt.Sprint(i)})
		}
		<-time.After(flushEvery)
		synctest.Wait()
		if len(b.batches) != 1 || strings.Join(b.names(), "") != "01234" {
			t.Errorf("written: %v", b.batches)
		}
		r.Record(store.Event{Name: "last"})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if names := b.names(); names[len(names)-1] != "last" {
			t.Errorf("at the end: %v", names)
		}
	})
}

// Strangers cannot fill the log: beyond their budget they are counted only, and
// the count is entered.
func TestStrangersHaveABudget(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := &book{}
	r := newRecorder(t, b, func() time.Time { return now }, &strings.Builder{})
	for i := range strangersBurst + 7 {
		r.RecordStranger(store.Event{Name: "x", Address: fmt.Sprint(i % 100)})
	}
	r.Record(store.Event{Name: "known"})
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := b.names()
	if len(names) != strangersBurst+2 || names[strangersBurst] != "known" || names[strangersBurst+1] != EventSuppressed {
		t.Errorf("%d events were written, the last are %v", len(names), names[max(0, len(names)-3):])
	}
	if last := b.batches[0][strangersBurst+1]; !strings.HasPrefix(last.Detail, "7 events") {
		t.Errorf("the count says %q", last.Detail)
	}
	if lost := counted(r.metrics.lost.WithLabelValues("suppressed")); lost != 7 {
		t.Errorf("counted %v", lost)
	}
	now = now.Add(strangersEvery)
	r.RecordStranger(store.Event{Name: "later", Address: "a"})
	if err := r.Flush(t.Context()); err != nil || b.names()[len(b.names())-1] != "later" {
		t.Errorf("after a while: %v, %v", b.names()[len(b.names())-1], err)
	}
}

// Nor can one address use up what all strangers have, or a client's refusals or
// anomalies of one kind go on without end.
func TestEachCauseHasABudget(t *testing.T) {
	for name, row := range map[string]struct {
		record func(r *Recorder)
		most   int
	}{
		"an address": {func(r *Recorder) { r.RecordStranger(store.Event{Name: "x", Address: "192.0.2.1"}) }, addressBurst},
		"a client":   {func(r *Recorder) { r.RecordRefusal(store.Event{Name: "x", Client: "app"}) }, clientBurst},
		"anomalies":  {func(r *Recorder) { r.report(anomaly{kind: KindAddress, event: store.Event{At: r.deps.Now()}}) }, anomalyBurst},
		"success":    {func(r *Recorder) { r.Record(store.Event{Name: "x", Client: "app"}) }, 1000},
	} {
		now := time.Unix(1_800_000_000, 0)
		b := &book{}
		r := newRecorder(t, b, func() time.Time { return now }, &strings.Builder{})
		for range 1000 {
			row.record(r)
		}
		r.RecordStranger(store.Event{Name: "other", Address: "192.0.2.2"})
		r.RecordRefusal(store.Event{Name: "other", Client: "other"})
		r.report(anomaly{kind: "other", event: store.Event{At: now}})
		if err := r.write(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(b.names()) - 3; got != row.most {
			t.Errorf("%s: %d of 1000 were entered, want %d", name, got, row.most)
		}
	}
}

// What is only counted is entered now and then as a number, however much of it
// there is.
func TestSummariesAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		r := newRecorder(t, b, time.Now, &strings.Builder{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		for range 10 * 60 { // ten minutes
			r.Repeated()
			for range 10 {
				r.RecordRefusal(store.Event{Name: "x", Client: "app"})
			}
			<-time.After(time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		count := map[string]int{}
		for _, name := range b.names() {
			count[name]++
		}
		if n := count[EventRepeated]; n < 9 || n > 11 {
			t.Errorf("%d summaries of replays", n)
		}
		if n := count[EventSuppressed]; n < 9 || n > 11 {
			t.Errorf("%d summaries of what was suppressed", n)
		}
	})
}

func TestLossIsCounted(t *testing.T) {
	b := &book{err: errors.New("disk full")}
	r := newRecorder(t, b, time.Now, &strings.Builder{})
	for range maxQueue + 3 {
		r.Record(store.Event{Name: "x"})
	}
	if lost := counted(r.metrics.lost.WithLabelValues("overflow")); lost != 3 {
		t.Errorf("overflow counted %v", lost)
	}
	if err := r.Flush(t.Context()); err == nil {
		t.Error("a failure is not told")
	}
	if lost := counted(r.metrics.lost.WithLabelValues("failed")); lost != maxBatch {
		t.Errorf("failures counted %v", lost)
	}
}

func TestAnomalies(t *testing.T) {
	failed := func(subject, address string) store.Event {
		return store.Event{Name: EventLogin, Result: store.Failure, Subject: subject, Address: address}
	}
	refused := store.Event{Name: "token.refuse", Result: store.Failure, Client: "app"}
	for name, row := range map[string]struct {
		feed func(r *Recorder, tick func(time.Duration))
		want map[string]float64
	}{
		"nothing": {func(r *Recorder, _ func(time.Duration)) {
			for range accountFailures - 1 {
				r.Record(failed("usr_1", ""))
			}
			r.Record(store.Event{Name: EventLogin, Result: store.Success, Subject: "usr_1"})
		}, nil},
		"an account": {func(r *Recorder, _ func(time.Duration)) {
			for i := range 3 * accountFailures {
				r.Record(failed("usr_1", fmt.Sprint("192.0.2.", i)))
			}
		}, map[string]float64{KindAccount: 1}},
		"slowly": {func(r *Recorder, tick func(time.Duration)) {
			for range 3 * accountFailures {
				r.Record(failed("usr_1", ""))
				tick(failureWindow / 5)
			}
		}, nil},
		"again": {func(r *Recorder, tick func(time.Duration)) {
			for range 2 {
				for range accountFailures {
					r.Record(failed("usr_1", ""))
				}
				tick(failureWindow)
			}
		}, map[string]float64{KindAccount: 2}},
		"an address": {func(r *Recorder, _ func(time.Duration)) {
			for range addressFailures {
				r.RecordStranger(failed("", "192.0.2.1"))
			}
		}, map[string]float64{KindAddress: 1}},
		"replay": {func(r *Recorder, tick func(time.Duration)) {
			for range 9 {
				r.Watch(store.Event{Name: store.EventReplay, Result: store.Failure, Client: "app"})
				tick(replayWindow / 4)
			}
			r.Watch(store.Event{Name: store.EventReplay, Result: store.Failure, Client: "other"})
		}, map[string]float64{KindReplay: 4}},
		"a client": {func(r *Recorder, _ func(time.Duration)) {
			for range clientRefusals {
				r.Record(refused)
			}
		}, map[string]float64{KindRefusals: 1}},
		"a client as ever": {func(r *Recorder, tick func(time.Duration)) {
			for range clientRefusals - 1 {
				r.Record(refused)
			}
			tick(refusalWindow)
			for range 2 * clientRefusals {
				r.Record(refused)
			}
		}, nil},
	} {
		now := time.Unix(1_800_000_000, 0)
		log := &strings.Builder{}
		b := &book{}
		r := newRecorder(t, b, func() time.Time { return now }, log)
		row.feed(r, func(d time.Duration) { now = now.Add(d) })
		total := 0.0
		for _, kind := range kinds {
			got := counted(r.metrics.anomalies.WithLabelValues(kind))
			total += got
			if got != row.want[kind] {
				t.Errorf("%s: %s counted %v, want %v", name, kind, got, row.want[kind])
			}
		}
		if lines := strings.Count(log.String(), "event=anomaly"); lines != int(total) {
			t.Errorf("%s: %d log lines for %v anomalies", name, lines, total)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if entered := strings.Count(strings.Join(b.names(), " "), "anomaly."); entered != int(total) {
			t.Errorf("%s: %d entries for %v anomalies", name, entered, total)
		}
	}
}

// However many keys there are, memory is bounded.
func TestCountsAreBounded(t *testing.T) {
	c := newCounts(2, time.Minute, 0)
	at := time.Unix(1_800_000_000, 0)
	for i := range maxCounts + 10 {
		c.add(fmt.Sprint(i), at)
	}
	if c.recent.Len() != maxCounts || len(c.byKey) != maxCounts {
		t.Errorf("%d keys are kept", c.recent.Len())
	}
	if c.add("0", at) != 0 || c.add(fmt.Sprint(maxCounts+9), at) != 2 {
		t.Error("the least recently seen was kept instead of the latest")
	}
}

// BenchmarkRecord is what an event costs the request that it is of, with a real
// log behind it that keeps up or sheds load.
func BenchmarkRecord(b *testing.B) {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "issuer.db"), bolt.Options{AuditKey: []byte("key")})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	r, err := New(Deps{Store: db, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	e := store.Event{Name: store.EventToken, Client: "robot", Address: "192.0.2.1", Detail: "client_credentials"}
	b.ResetTimer()
	for i := range b.N {
		r.Record(e)
		if i%maxBatch == maxBatch-1 {
			if err := r.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(counted(r.metrics.lost.WithLabelValues("overflow")), "lost")
}
