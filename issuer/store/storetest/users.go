package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testUsers(t *testing.T, e *env) {
	want := store.User{ID: "usr_1", Login: "alice", Name: "Alice", Email: "a@example.com", Roles: []string{"customer"}, Password: "$p"}
	e.ok(e.CreateUser(e.ctx, want))
	got := must[store.User](t)(e.UserByLogin(e.ctx, "alice"))
	want.CreatedAt, want.NotBefore, want.AllRoles = e.clock.now(), got.NotBefore, want.Roles
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, taken := range map[string]store.User{"login": {ID: "usr_2", Login: "alice"}, "id": {ID: "usr_1", Login: "bob"}} {
		if err := e.CreateUser(e.ctx, taken); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a taken %s: %v", name, err)
		}
	}
	if _, err := e.UserByLogin(e.ctx, "bob"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the login of a refused user: %v", err)
	}
	e.user("aaron")
	if all := must[[]store.User](t)(e.ListUsers(e.ctx, "", 10)); len(all) != 2 || all[0].Login != "aaron" {
		t.Errorf("the list is %v", all)
	}
	e.ok(e.DeleteUser(e.ctx, "usr_1"))
	for name, err := range map[string]error{
		"read":     second(e.User(e.ctx, "usr_1")),
		"login":    second(e.UserByLogin(e.ctx, "alice")),
		"password": e.SetPassword(e.ctx, "usr_1", "$q"),
		"revoke":   e.RevokeUser(e.ctx, "usr_1"),
		"delete":   e.DeleteUser(e.ctx, "usr_1"),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a deleted user: %v", name, err)
		}
	}
	e.user("alice") // the login is free again
}

func testSessions(t *testing.T, e *env) {
	u := e.user("alice")
	s, cookie := e.session(u)
	got, who, err := e.SessionByCookie(e.ctx, cookie)
	e.ok(err)
	if diff := cmp.Diff(s, got); diff != "" || who.ID != u.ID {
		t.Errorf("user %s, %s", who.ID, diff)
	}
	if _, err := e.CreateSession(e.ctx, s); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a taken session id: %v", err)
	}
	if _, err := e.CreateSession(e.ctx, store.Session{ID: "sid_x", UserID: "usr_none", Cookie: store.HashOf("x")}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session of nobody: %v", err)
	}
	if _, _, err := e.SessionByCookie(e.ctx, store.Hash{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no cookie: %v", err)
	}
	for name, end := range map[string]func(u store.User, s store.Session){
		"revoked":      func(_ store.User, s store.Session) { e.ok(e.RevokeSession(e.ctx, s.ID)) },
		"user revoked": func(u store.User, _ store.Session) { e.ok(e.RevokeUser(e.ctx, u.ID)) },
		"new password": func(u store.User, _ store.Session) { e.ok(e.SetPassword(e.ctx, u.ID, "$n")) },
		"user deleted": func(u store.User, _ store.Session) { e.ok(e.DeleteUser(e.ctx, u.ID)) },
		"expired":      func(store.User, store.Session) { e.clock.advance(12 * time.Hour) },
	} {
		u := e.user(name)
		s, cookie := e.session(u)
		end(u, s)
		if _, _, err := e.SessionByCookie(e.ctx, cookie); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a session that is %s: %v", name, err)
		}
	}
}

// Logging in again keeps the session's id and grants and changes its cookie.
func testSessionReplacement(t *testing.T, e *env) {
	f, grant, _ := e.granted("app", "alice")
	_, cookie := e.session(e.user("bob"))
	again := func(old store.Hash, userID string) (store.Session, store.Hash, error) {
		e.clock.advance(time.Hour)
		fresh := store.HashOf(store.NewToken("ghs_"))
		s, err := e.ReplaceSession(e.ctx, old, store.Session{
			ID: store.NewID("sid_"), Cookie: fresh, UserID: userID,
			AuthTime: e.clock.now(), ExpiresAt: e.clock.now().Add(24 * time.Hour),
		})
		return s, fresh, err
	}
	renewed, fresh, err := again(f.session.Cookie, f.user.ID)
	if err != nil || renewed.ID != f.session.ID || !renewed.AuthTime.Equal(e.clock.now()) {
		t.Fatalf("the same user again: %+v, %v", renewed, err)
	}
	if _, _, err := e.SessionByCookie(e.ctx, f.session.Cookie); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old cookie: %v", err)
	}
	e.clock.advance(11*time.Hour + 30*time.Minute) // past the end that the session had
	_, _, err = e.Sweep(e.ctx, 1000)
	e.ok(err)
	if got, _, err := e.SessionByCookie(e.ctx, fresh); err != nil || got.ID != f.session.ID {
		t.Errorf("the new cookie: %+v, %v", got, err)
	}
	if _, err := e.Grant(e.ctx, grant.ID); err != nil || e.last() != 0 {
		t.Errorf("its grant: %v", err)
	}
	if _, _, err := again(fresh, "usr_none"); !errors.Is(err, store.ErrNotFound) || e.last() != 0 {
		t.Errorf("nobody: %v", err)
	}
	carol, _, err := again(fresh, e.user("carol").ID)
	if err != nil || carol.ID == f.session.ID || !e.inState(store.KindSession, f.session.ID) {
		t.Errorf("another user: %+v, %v", carol, err)
	}
	if _, err := e.Grant(e.ctx, grant.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the grant of the session that another user took over: %v", err)
	}
	if fresh, _, err := again(cookie, carol.UserID); err != nil || fresh.ID == carol.ID || e.last() != 1 {
		t.Errorf("in place of one that has expired: %+v, %v", fresh, err)
	}
}

// Ending a session ends its grants, also those that outlived it, and no other.
func testSessionRevocation(t *testing.T, e *env) {
	f, grant, refresh := e.granted("app", "alice")
	pending := e.code(f)
	other, _ := e.session(f.user)
	g := f
	g.session = other
	g.code = e.code(g)
	r, otherRefresh := e.redemption(g)
	_, err := e.RedeemCode(e.ctx, r)
	e.ok(err)

	e.ok(e.RevokeSession(e.ctx, f.session.ID))
	if entries := e.logged(0); len(entries) != 1 || entries[0].Kind != store.KindSession || entries[0].ID != f.session.ID {
		t.Errorf("the log has %v", entries)
	}
	if _, err := e.Grant(e.ctx, grant.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its grant: %v", err)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", refresh)); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("its refresh token: %v", err)
	}
	r, _ = e.redemption(flow{client: f.client, code: pending})
	if _, err := e.RedeemCode(e.ctx, r); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("its code: %v", err)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", otherRefresh)); err != nil {
		t.Errorf("another session's refresh token: %v", err)
	}

	e.clock.advance(24 * time.Hour)
	_, _, err = e.Sweep(e.ctx, 1000)
	e.ok(err)
	e.ok(e.RevokeSession(e.ctx, other.ID))
	next := store.Successor(successorKey, otherRefresh)
	if _, err := e.RotateRefresh(e.ctx, rotation("app", next)); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("the refresh token of a session that had expired before it was revoked: %v", err)
	}
}

func testConsents(t *testing.T, e *env) {
	u := e.user("alice")
	e.client("app")
	if _, err := e.Consent(e.ctx, u.ID, "app"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before it was given: %v", err)
	}
	e.ok(e.SaveConsent(e.ctx, u.ID, "app", []string{"b", "a"}))
	e.ok(e.SaveConsent(e.ctx, u.ID, "app", []string{"c", "a"}))
	if c := must[store.Consent](t)(e.Consent(e.ctx, u.ID, "app")); !slices.Equal(c.Scopes, []string{"a", "b", "c"}) {
		t.Errorf("scopes %v", c.Scopes)
	}
	for name, err := range map[string]error{
		"user":   e.SaveConsent(e.ctx, "usr_none", "app", nil),
		"client": e.SaveConsent(e.ctx, u.ID, "none", nil),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("consent of an unknown %s: %v", name, err)
		}
	}
	e.ok(e.RevokeConsent(e.ctx, u.ID, "app"))
	if _, err := e.Consent(e.ctx, u.ID, "app"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after it was revoked: %v", err)
	}
	e.ok(e.SaveConsent(e.ctx, u.ID, "app", []string{"a"}))
	e.ok(e.RevokeClient(e.ctx, "app"))
	if _, err := e.Consent(e.ctx, u.ID, "app"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the client was revoked: %v", err)
	}
	e.ok(e.SaveConsent(e.ctx, u.ID, "app", []string{"b"}))
	if c := must[store.Consent](t)(e.Consent(e.ctx, u.ID, "app")); !slices.Equal(c.Scopes, []string{"b"}) {
		t.Errorf("scopes %v after a new consent: the revoked ones are back", c.Scopes)
	}
}
