package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func (e *env) registrationToken(uses int) (store.RegistrationToken, store.Hash) {
	e.t.Helper()
	r := store.RegistrationToken{
		ID: store.NewID("rgt_"), Hash: store.HashOf(store.NewToken("ghri_")), Note: "for tests", UsesLeft: uses,
		Policy: store.RegistrationPolicy{GrantTypes: []string{"client_credentials"}, Scopes: []string{"a"}}, ExpiresAt: e.clock.now().Add(time.Hour),
	}
	e.ok(e.CreateRegistrationToken(e.ctx, r))
	r.CreatedAt = e.clock.now()
	return r, r.Hash
}

func registering(id, secret string) store.Client {
	return store.Client{ID: id, Type: store.Confidential, Registration: &store.Registration{Token: store.HashOf(secret)}}
}

func testRegistrationTokens(t *testing.T, e *env) {
	r, hash := e.registrationToken(2)
	if diff := cmp.Diff(r, must[store.RegistrationToken](t)(e.RegistrationToken(e.ctx, hash))); diff != "" {
		t.Error(diff)
	}
	if err := e.CreateRegistrationToken(e.ctx, r); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the same one again: %v", err)
	}
	e.ok(e.RegisterClient(e.ctx, registering("one", "1"), hash))
	if err := e.RegisterClient(e.ctx, registering("one", "1"), hash); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a taken id: %v", err)
	}
	e.ok(e.RegisterClient(e.ctx, registering("two", "2"), hash))
	if err := e.RegisterClient(e.ctx, registering("three", "3"), hash); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a third use of two: %v", err)
	}
	late, lateHash := e.registrationToken(1)
	gone, goneHash := e.registrationToken(1)
	e.ok(e.DeleteRegistrationToken(e.ctx, gone.ID))
	if list := must[[]store.RegistrationToken](t)(e.ListRegistrationTokens(e.ctx)); len(list) != 2 {
		t.Errorf("the list is %v", list)
	}
	e.clock.advance(time.Hour + time.Second)
	for name, err := range map[string]error{
		"expired":      e.RegisterClient(e.ctx, registering("x", "x"), lateHash),
		"read expired": second(e.RegistrationToken(e.ctx, lateHash)),
		"deleted":      e.RegisterClient(e.ctx, registering("x", "x"), goneHash),
		"delete again": e.DeleteRegistrationToken(e.ctx, gone.ID),
		"none":         e.RegisterClient(e.ctx, registering("x", "x"), store.HashOf("guess")),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := e.Sweep(e.ctx, 100)
	e.ok(err)
	if err := e.DeleteRegistrationToken(e.ctx, late.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired one is not swept: %v", err)
	}
	if _, err := e.Client(e.ctx, "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refused client is there: %v", err)
	}
}

// Of any number of parallel registrations so many pass as there are uses.
func testRegistrationRace(t *testing.T, e *env) {
	_, hash := e.registrationToken(3)
	var passed atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			err := e.RegisterClient(e.ctx, registering(fmt.Sprint("c", i), "s"), hash)
			if err == nil {
				passed.Add(1)
			} else if !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 3 {
		t.Errorf("%d registrations passed, want 3", passed.Load())
	}
}

func testRegistrations(t *testing.T, e *env) {
	if err := e.RegisterClient(e.ctx, store.Client{ID: "x"}, store.Hash{}); err == nil {
		t.Error("a client without a registration access token is registered")
	}
	e.client("managed")
	e.ok(e.RegisterClient(e.ctx, registering("own", "first"), store.Hash{}))
	edit := func(id, secret, next string) error {
		return second(e.UpdateRegistration(e.ctx, id, store.HashOf(secret), func(c *store.Client) error {
			c.Name, c.Registration = next, &store.Registration{Token: store.HashOf(next)}
			return nil
		}))
	}
	for name, err := range map[string]error{
		"another's token":   edit("own", "wrong", "x"),
		"no token":          second(e.UpdateRegistration(e.ctx, "own", store.Hash{}, func(*store.Client) error { return nil })),
		"an administered":   edit("managed", "first", "x"),
		"an unknown client": edit("none", "first", "x"),
		"unregister":        e.DeleteRegistration(e.ctx, "own", store.HashOf("wrong")),
		"remove a managed":  e.DeleteRegistration(e.ctx, "managed", store.HashOf("secret of managed")),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.ok(edit("own", "first", "second"))
	if err := edit("own", "first", "third"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the token before: %v", err)
	}
	if c := must[store.Client](t)(e.Client(e.ctx, "own")); c.Name != "second" || !c.Registration.Token.Matches("second") {
		t.Errorf("the client is %+v", c)
	}
	e.ok(e.DeleteRegistration(e.ctx, "own", store.HashOf("second")))
	if !e.inState(store.KindClient, "own") {
		t.Error("what it was issued is not revoked")
	}
}
