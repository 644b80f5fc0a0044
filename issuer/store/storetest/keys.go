package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func put(keys ...store.Key) func([]store.Key) (store.KeyChange, error) {
	return func([]store.Key) (store.KeyChange, error) { return store.KeyChange{Put: keys}, nil }
}

func testKeys(t *testing.T, e *env) {
	old := store.Key{ID: "z", Algorithm: "ES256", State: store.KeyActive, Public: []byte("p"), Sealed: []byte("s"), CreatedAt: e.clock.now(), ActiveAt: e.clock.now()}
	young := store.Key{ID: "a", Algorithm: "ES256", State: store.KeyNext, CreatedAt: e.clock.now().Add(time.Hour)}
	stored := must[[]store.Key](t)(e.UpdateKeys(e.ctx, put(young, old)))
	if diff := cmp.Diff([]store.Key{old, young}, stored); diff != "" {
		t.Error(diff)
	}
	refused := errors.New("no")
	if _, err := e.UpdateKeys(e.ctx, func(now []store.Key) (store.KeyChange, error) {
		if diff := cmp.Diff(stored, now); diff != "" {
			t.Error(diff)
		}
		return store.KeyChange{Delete: []string{"z"}}, refused
	}); !errors.Is(err, refused) {
		t.Errorf("a refused change: %v", err)
	}
	if diff := cmp.Diff(stored, must[[]store.Key](t)(e.ListKeys(e.ctx))); diff != "" {
		t.Error("a refused change was made", diff)
	}
	left := must[[]store.Key](t)(e.UpdateKeys(e.ctx, func([]store.Key) (store.KeyChange, error) {
		return store.KeyChange{Delete: []string{"z"}}, nil
	}))
	if len(left) != 1 || left[0].ID != "a" || e.last() != 0 {
		t.Errorf("after deleting: %v", left)
	}
}

func testKeyPurge(t *testing.T, e *env) {
	_, err := e.UpdateKeys(e.ctx, put(store.Key{ID: "k", State: store.KeyActive, Public: []byte("p"), Sealed: []byte("s"), CreatedAt: e.clock.now()}))
	e.ok(err)
	purge := func(id string) func([]store.Key) (store.KeyChange, error) {
		return func([]store.Key) (store.KeyChange, error) {
			return store.KeyChange{Put: []store.Key{{ID: "r", State: store.KeyActive, CreatedAt: e.clock.now().Add(1)}}, Purge: []string{id}}, nil
		}
	}
	if _, err := e.UpdateKeys(e.ctx, purge("none")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
	if keys := must[[]store.Key](t)(e.ListKeys(e.ctx)); len(keys) != 1 {
		t.Errorf("half of a failed change was made: %v", keys)
	}
	keys := must[[]store.Key](t)(e.UpdateKeys(e.ctx, purge("k")))
	if len(keys) != 2 || keys[0].State != store.KeyPurged || keys[0].Sealed != nil || !keys[0].RetiredAt.Equal(e.clock.now()) {
		t.Errorf("the keys are %+v", keys)
	}
	if entries := e.logged(0); len(entries) != 1 || entries[0].Kind != store.KindKey || entries[0].ID != "k" ||
		entries[0].ExpiresAt.Before(e.clock.now().Add(30*24*time.Hour)) {
		t.Errorf("the log has %v", entries)
	}
}
