package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testOnces(t *testing.T, e *env) {
	until := e.clock.now().Add(time.Minute)
	e.ok(e.UseOnce(e.ctx, store.HashOf("a"), until))
	e.ok(e.UseOnce(e.ctx, store.HashOf("b"), until))
	for range 2 {
		if err := e.UseOnce(e.ctx, store.HashOf("a"), until.Add(time.Hour)); !errors.Is(err, store.ErrConsumed) {
			t.Errorf("used again: %v", err)
		}
	}
	if err := e.UseOnce(e.ctx, store.Hash{}, until); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("nothing can be used: %v", err)
	}
	e.clock.advance(59 * time.Second)
	if _, _, err := e.Sweep(e.ctx, 100); err != nil {
		t.Fatal(err)
	}
	if err := e.UseOnce(e.ctx, store.HashOf("a"), until); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("forgotten before its time: %v", err)
	}
	e.clock.advance(2 * time.Second)
	if removed, _, err := e.Sweep(e.ctx, 100); err != nil || removed != 2 {
		t.Errorf("swept %d, %v", removed, err)
	}
}

// Of any number of parallel uses one succeeds, and a reopened store knows.
func testOnceRace(t *testing.T, e *env) {
	what, until := store.HashOf("jti"), e.clock.now().Add(time.Minute)
	var used atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if e.UseOnce(e.ctx, what, until) == nil {
				used.Add(1)
			}
		})
	}
	wg.Wait()
	if used.Load() != 1 {
		t.Errorf("%d uses", used.Load())
	}
	e.Store = e.backend.Reopen(t, e.Store, e.clock.now)
	if err := e.UseOnce(e.ctx, what, until); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("after a restart: %v", err)
	}
}

func testPushedRequests(t *testing.T, e *env) {
	push := func(name string) store.PushedRequest {
		p := store.PushedRequest{Hash: store.HashOf(name), ClientID: "web", Parameters: "a=b", ExpiresAt: e.clock.now().Add(time.Minute)}
		e.ok(e.PushRequest(e.ctx, p))
		return p
	}
	p := push("one")
	if err := e.PushRequest(e.ctx, p); !errors.Is(err, store.ErrConflict) {
		t.Errorf("pushed twice: %v", err)
	}
	if _, err := e.TakeRequest(e.ctx, p.Hash, "other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("taken by another client: %v", err)
	}
	if taken, err := e.TakeRequest(e.ctx, p.Hash, "web"); err != nil || taken.Parameters != "a=b" {
		t.Errorf("taken %+v, %v", taken, err)
	}
	if _, err := e.TakeRequest(e.ctx, p.Hash, "web"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("taken twice: %v", err)
	}
	late := push("late")
	e.clock.advance(time.Minute)
	if _, err := e.TakeRequest(e.ctx, late.Hash, "web"); !errors.Is(err, store.ErrExpired) {
		t.Errorf("taken too late: %v", err)
	}
	e.clock.advance(time.Second)
	if removed, _, err := e.Sweep(e.ctx, 100); err != nil || removed != 1 {
		t.Errorf("swept %d, %v", removed, err)
	}
	if _, err := e.TakeRequest(e.ctx, late.Hash, "web"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the sweep: %v", err)
	}
}

func testPushedRace(t *testing.T, e *env) {
	p := store.PushedRequest{Hash: store.HashOf("one"), ClientID: "web", ExpiresAt: e.clock.now().Add(time.Minute)}
	e.ok(e.PushRequest(e.ctx, p))
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := e.TakeRequest(e.ctx, p.Hash, "web"); err == nil {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("taken %d times", taken.Load())
	}
}
