package feed

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

const (
	issuer = "https://issuer.example"
	authz  = "spiffe://test/authz"
)

func revoke(t *testing.T, db store.Revocations, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := db.RevokeToken(t.Context(), id, time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotThenChanges(t *testing.T) {
	db := newStore(t)
	revoke(t, db, "a", "b")
	client, _ := start(t, newServer(t, db, nil))
	p := watch(t, client, "", 0)
	p.current()
	if len(p.known) != 2 || p.sequence != 2 || p.epoch != db.Epoch() || p.parts != 1 {
		t.Errorf("the snapshot is %v at %s %d in %d parts", p.known, p.epoch, p.sequence, p.parts)
	}
	if r := p.known["a"]; r.GetKind() != revocationv1.Kind_KIND_TOKEN || r.GetExpiresAt() < time.Now().Add(59*time.Minute).Unix() {
		t.Errorf("an entry is %v", r)
	}
	if drift := time.Since(p.heartbeat.GetTime().AsTime()); drift < 0 || drift > time.Minute {
		t.Errorf("the heartbeat's time is %s ago", drift)
	}
	revoke(t, db, "c")
	p.until(func() bool { return p.known["c"] != nil })
}

func TestEveryKindIsNamed(t *testing.T) {
	for kind := store.KindToken; kind <= store.KindClient; kind++ {
		if int32(kinds[kind]) != int32(kind) {
			t.Errorf("kind %d is sent as %v", kind, kinds[kind])
		}
	}
}

func TestNotBeforeIsSent(t *testing.T) {
	db := newStore(t)
	client, _ := start(t, newServer(t, db, nil))
	p := watch(t, client, "", 0)
	if err := db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public}); err != nil {
		t.Fatal(err)
	}
	if err := db.RevokeClient(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	p.until(func() bool { return p.known["app"] != nil })
	if r := p.known["app"]; r.GetKind() != revocationv1.Kind_KIND_CLIENT || r.GetNotBefore() < time.Now().Unix()-60 || r.GetExpiresAt() <= r.GetNotBefore() {
		t.Errorf("the entry is %v", r)
	}
}

// Watchers that come at any time, while many commit, all end up with
// everything, and none ever sees a gap.
func TestGaplessUnderConcurrentCommits(t *testing.T) {
	db := newStore(t)
	client, _ := start(t, newServer(t, db, nil))
	const writers, each = 16, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				revoke(t, db, fmt.Sprintf("%d-%d", w, i))
			}
		})
	}
	for range 6 {
		p := watch(t, client, "", 0)
		wg.Go(func() { p.until(func() bool { return len(p.known) == writers*each }) })
	}
	wg.Wait()
}

func TestSnapshotComesInParts(t *testing.T) {
	db := newStore(t)
	var wg sync.WaitGroup
	const writers, each = 40, 30
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				revoke(t, db, fmt.Sprintf("%d-%d", w, i))
			}
		})
	}
	wg.Wait()
	client, _ := start(t, newServer(t, db, nil))
	p := watch(t, client, "", 0)
	p.current()
	if want := (writers*each + partSize - 1) / partSize; p.parts != want || len(p.known) != writers*each {
		t.Errorf("%d parts with %d entries, want %d", p.parts, len(p.known), want)
	}
	// Whoever missed as much is not called current before having all of it.
	late := watch(t, client, db.Epoch(), 0)
	late.current()
	if late.parts != 0 || late.sequence != writers*each {
		t.Errorf("the first heartbeat came at %d of %d", late.sequence, writers*each)
	}
}

func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	var mu sync.Mutex
	var ahead time.Duration
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	db := openStore(t, path, bolt.Options{Now: now})
	revoke(t, db, "a", "b", "c")
	client, stop := start(t, newServer(t, db, nil))
	check := func(name, epoch string, after uint64, snapshots, known int) {
		t.Helper()
		p := watch(t, client, epoch, after)
		p.current()
		if p.parts != snapshots || len(p.known) != known || p.epoch != db.Epoch() {
			t.Errorf("%s: %d parts of a snapshot, knows %d of epoch %s", name, p.parts, len(p.known), p.epoch)
		}
	}
	check("where it left", db.Epoch(), 3, 0, 0)
	check("after a break", db.Epoch(), 1, 0, 2)
	check("from the start of the log", db.Epoch(), 0, 0, 3)
	check("unknown epoch", "another", 1, 1, 3)
	check("an end that the log never had", db.Epoch(), 9, 1, 3)

	mu.Lock()
	ahead = 20 * time.Minute // tokens live an hour: the log is trimmed, the state stays
	mu.Unlock()
	if _, _, err := db.Sweep(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	check("a sequence that was trimmed", db.Epoch(), 1, 1, 3)
	check("the end of a trimmed log", db.Epoch(), 3, 0, 0)

	stop()
	db.Close()
	before := db.Epoch()
	db = openStore(t, path, bolt.Options{Now: now, NewEpoch: true})
	client, _ = start(t, newServer(t, db, nil))
	check("after a restore", before, 3, 1, 3)
}

// A server that stops ends its streams, so that draining does not wait for
// watchers, who never leave by themselves.
func TestStopEndsStreams(t *testing.T) {
	client, stop := start(t, newServer(t, newStore(t), nil))
	p := watch(t, client, "", 0)
	p.current()
	stop()
	for {
		if err := p.receive(); err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the stream ended with %v", err)
			}
			return
		}
	}
}

func TestWatchersAreBounded(t *testing.T) {
	s := newServer(t, newStore(t), func(s *Server) { s.places = make(chan struct{}, 1) })
	client, _ := start(t, s)
	first := watch(t, client, "", 0)
	first.current()
	second := watch(t, client, "", 0)
	if err := second.receive(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one watcher too many: %v", err)
	}
	first.cancel()
	s.places <- struct{}{} // a place is free again
	<-s.places
	watch(t, client, "", 0).current()
}

// A peer that takes nothing is dropped; the others do not notice.
func TestSlowWatcherIsDropped(t *testing.T) {
	db := newStore(t)
	s := newServer(t, db, func(s *Server) { s.stall = 2 * time.Second })
	client, _ := start(t, s)
	slow := watch(t, client, "", 0)
	slow.current()
	quick := watch(t, client, "", 0)
	var wg sync.WaitGroup
	const writers, each, size = 32, 80, 1000
	for w := range writers {
		wg.Go(func() { // far more than flow control lets through unread
			for i := range each {
				revoke(t, db, fmt.Sprintf("%0*d", size, w*each+i))
			}
		})
	}
	quick.until(func() bool { return len(quick.known) == writers*each })
	wg.Wait()
	for {
		if err := slow.receive(); err != nil {
			if status.Code(err) != codes.Aborted {
				t.Errorf("the slow watcher was dropped with %v", err)
			}
			break
		}
	}
	again := watch(t, client, slow.epoch, slow.sequence)
	again.until(func() bool { return again.sequence == writers*each })
	if again.parts != 0 || len(again.known)+len(slow.known) != writers*each {
		t.Errorf("it resumed with %d parts of a snapshot and %d + %d entries", again.parts, len(slow.known), len(again.known))
	}
}
