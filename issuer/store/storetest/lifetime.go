package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testSweep(t *testing.T, e *env) {
	for i := range 10 {
		f, grant, refresh := e.granted(fmt.Sprint("app", i), fmt.Sprint("user", i))
		e.code(f)
		_, err := e.RotateRefresh(e.ctx, rotation(f.client.ID, refresh))
		e.ok(err)
		e.ok(e.RevokeGrant(e.ctx, grant.ID))
	}
	if removed, more, err := e.Sweep(e.ctx, 5); removed != 0 || more || err != nil {
		t.Errorf("nothing has expired, yet %d, %v, %v", removed, more, err)
	}
	e.clock.advance(721 * time.Hour)
	total := 0
	for {
		removed, more, err := e.Sweep(e.ctx, 5)
		e.ok(err)
		if removed > 5 {
			t.Fatalf("a step of 5 removed %d", removed)
		}
		total += removed
		if !more {
			break
		}
	}
	// Each: session, two codes, grant, two refresh tokens, revocation, its log entry.
	if total != 10*8 {
		t.Errorf("%d records were removed, want %d", total, 10*8)
	}
	if _, _, err := e.Sweep(e.ctx, 0); err == nil {
		t.Error("a step of nothing is accepted")
	}
	if users := must[[]store.User](t)(e.ListUsers(e.ctx, "", 100)); len(users) != 10 {
		t.Errorf("%d users are left", len(users))
	}
}

// A used refresh token is recognised for as long as its family can live: its
// thief may be the one who holds the other end.
func testSweepKeepsReplays(t *testing.T, e *env) {
	_, grant, first := e.granted("app", "alice")
	_, err := e.RotateRefresh(e.ctx, rotation("app", first))
	e.ok(err)
	e.clock.advance(700 * time.Hour)
	_, _, err = e.Sweep(e.ctx, 1000)
	e.ok(err)
	if _, err := e.RotateRefresh(e.ctx, rotation("app", first)); !errors.Is(err, store.ErrConsumed) || !e.inState(store.KindGrant, grant.ID) {
		t.Errorf("reuse after 700 hours: %v", err)
	}
}

func testReopen(t *testing.T, e *env) {
	f, grant, refresh := e.granted("app", "alice")
	_, err := e.RotateRefresh(e.ctx, rotation("app", refresh))
	e.ok(err)
	e.ok(e.RevokeToken(e.ctx, "jti", e.clock.now().Add(time.Hour)))
	_, err = e.UpdateKeys(e.ctx, put(store.Key{ID: "k", State: store.KeyActive, Sealed: []byte("s"), CreatedAt: e.clock.now()}))
	e.ok(err)
	epoch, before := e.Epoch(), e.logged(0)

	e.Store = e.backend.Reopen(t, e.Store, e.clock.now)
	if e.Epoch() != epoch || epoch == "" {
		t.Errorf("the epoch went from %q to %q", epoch, e.Epoch())
	}
	if diff := cmp.Diff(before, e.logged(0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(grant, must[store.Grant](t)(e.Grant(e.ctx, grant.ID))); diff != "" {
		t.Error(diff)
	}
	if keys := must[[]store.Key](t)(e.ListKeys(e.ctx)); len(keys) != 1 {
		t.Errorf("keys %v", keys)
	}
	r, _ := e.redemption(f)
	if _, err := e.RedeemCode(e.ctx, r); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("a code consumed before: %v", err)
	}
	e.ok(e.RevokeToken(e.ctx, "next", e.clock.now().Add(time.Hour)))
	if last := before[len(before)-1].Sequence; e.last() != last+2 { // the replayed code's grant, and this
		t.Errorf("the log went on from %d to %d", last, e.last())
	}
}

func testCancelledContext(t *testing.T, e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if err := e.CreateClient(ctx, store.Client{ID: "app", Type: store.Public}); !errors.Is(err, context.Canceled) {
		t.Errorf("a write: %v", err)
	}
	if _, err := e.Client(ctx, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("a read: %v", err)
	}
	if _, err := e.Client(e.ctx, "app"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it was written: %v", err)
	}
}
