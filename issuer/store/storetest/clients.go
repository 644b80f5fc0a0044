package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testClients(t *testing.T, e *env) {
	want := store.Client{
		ID: "app", Name: "The app", Type: store.Confidential, Secret: store.HashOf("s"),
		GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{"https://app.example/cb"}, Scopes: []string{"read:orders"},
	}
	e.ok(e.CreateClient(e.ctx, want))
	got := must[store.Client](t)(e.Client(e.ctx, "app"))
	want.CreatedAt, want.NotBefore = e.clock.now(), got.NotBefore
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := e.CreateClient(e.ctx, want); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a taken id: %v", err)
	}
	e.client("aaa")
	all := must[[]store.Client](t)(e.ListClients(e.ctx, "", 10))
	if len(all) != 2 || all[0].ID != "aaa" || all[1].ID != "app" {
		t.Errorf("the list is %v", all)
	}
	e.ok(e.SetClientSecret(e.ctx, "app", store.HashOf("new")))
	if c := must[store.Client](t)(e.Client(e.ctx, "app")); !c.Secret.Matches("new") || c.Secret.Matches("s") {
		t.Error("the secret was not replaced")
	}
	for name, err := range map[string]error{
		"read":   second(e.Client(e.ctx, "none")),
		"secret": e.SetClientSecret(e.ctx, "none", store.HashOf("x")),
		"delete": e.DeleteClient(e.ctx, "none"),
		"revoke": e.RevokeClient(e.ctx, "none"),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of an unknown client: %v", name, err)
		}
	}
	if e.last() != 0 {
		t.Error("something was revoked")
	}
	testClientsRevision(t, e)
}

// The revision tells whether the list has to be read again.
func testClientsRevision(t *testing.T, e *env) {
	revision := func() uint64 { return must[uint64](t)(e.ClientsRevision(e.ctx)) }
	before := revision()
	initial := store.RegistrationToken{ID: "rgt_x", Hash: store.HashOf("x"), UsesLeft: 1, ExpiresAt: e.clock.now().Add(time.Hour)}
	e.ok(e.CreateRegistrationToken(e.ctx, initial))
	e.ok(e.CreateUser(e.ctx, store.User{ID: "usr_x", Login: "x"}))
	if revision() != before {
		t.Error("it changed with something else")
	}
	registered := store.Client{ID: "registered", Type: store.Public, Registration: &store.Registration{Token: store.HashOf("m")}}
	edit := func(c *store.Client) error { c.Name = "another"; return nil }
	for _, change := range []struct {
		name string
		make func() error
	}{
		{"made", func() error { return e.CreateClient(e.ctx, store.Client{ID: "new", Type: store.Public}) }},
		{"changed", func() error { return second(e.UpdateClient(e.ctx, "new", edit)) }},
		{"deleted", func() error { return e.DeleteClient(e.ctx, "new") }},
		{"registered", func() error { return e.RegisterClient(e.ctx, registered, initial.Hash) }},
		{"registered anew", func() error { return second(e.UpdateRegistration(e.ctx, "registered", store.HashOf("m"), edit)) }},
		{"unregistered", func() error { return e.DeleteRegistration(e.ctx, "registered", store.HashOf("m")) }},
	} {
		was := revision()
		e.ok(change.make())
		if revision() == was {
			t.Errorf("it is the same after a client was %s", change.name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A client that takes the id of a deleted one gets nothing of what was issued
// to it, neither at once nor after the revocation has been forgotten.
func testDeletedClientIsGone(t *testing.T, e *env) {
	f, grant, refresh := e.granted("app", "alice")
	e.ok(e.SaveConsent(e.ctx, f.user.ID, "app", []string{"read:orders"}))
	pending := e.code(f)
	e.ok(e.DeleteClient(e.ctx, "app"))

	if entries := e.logged(0); len(entries) != 1 || entries[0].Kind != store.KindClient || entries[0].ID != "app" || entries[0].NotBefore < e.clock.now().Unix() {
		t.Errorf("the log has %v", entries)
	}
	for _, pause := range []time.Duration{0, Retention + time.Hour} {
		e.clock.advance(pause)
		_, _, err := e.Sweep(e.ctx, 1000)
		e.ok(err)
		e.client("app")
		if _, err := e.Grant(e.ctx, grant.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after %s: the old grant: %v", pause, err)
		}
		if _, err := e.RotateRefresh(e.ctx, rotation("app", refresh)); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("after %s: the old refresh token: %v", pause, err)
		}
		if _, err := e.Consent(e.ctx, f.user.ID, "app"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after %s: the old consent: %v", pause, err)
		}
		if pause == 0 {
			r, _ := e.redemption(flow{client: f.client, code: pending})
			if _, err := e.RedeemCode(e.ctx, r); !errors.Is(err, store.ErrRevoked) {
				t.Errorf("the old code: %v", err)
			}
		}
		e.ok(e.DeleteClient(e.ctx, "app"))
	}
}

func testSubjectsAreDisjoint(t *testing.T, e *env) {
	if err := e.CreateClient(e.ctx, store.Client{ID: store.UserIDPrefix + "x", Type: store.Public}); err == nil {
		t.Error("a client has the id of a user")
	}
	if err := e.CreateUser(e.ctx, store.User{ID: "app", Login: "alice"}); err == nil {
		t.Error("a user has the id of a client")
	}
}
