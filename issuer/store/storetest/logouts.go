package storetest

import (
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// told makes a client that wants to be told of logouts.
func (e *env) told(id string) store.Client {
	e.t.Helper()
	e.ok(e.CreateClient(e.ctx, store.Client{
		ID: id, Type: store.Confidential, Secret: store.HashOf("s"), Scopes: []string{"read:orders"},
		BackchannelLogoutURI: "https://" + id + ".example/logout",
	}))
	return must[store.Client](e.t)(e.Client(e.ctx, id))
}

// due are the notices whose time has come.
func (e *env) due() []store.Logout {
	e.t.Helper()
	return must[[]store.Logout](e.t)(e.DueLogouts(e.ctx, 100))
}

func clientsOf(due []store.Logout) (ids []string) {
	for _, l := range due {
		ids = append(ids, l.ClientID)
	}
	slices.Sort(ids)
	return ids
}

// grantIn gives a client a grant in a session.
func (e *env) grantIn(c store.Client, u store.User, s store.Session) {
	e.t.Helper()
	f := flow{client: c, user: u, session: s}
	f.code = e.code(f)
	r, _ := e.redemption(f)
	_, err := e.RedeemCode(e.ctx, r)
	e.ok(err)
}

// Whoever had a grant in a session is told of its end, once, and nobody else.
func testLogouts(t *testing.T, e *env) {
	u, other := e.user("alice"), e.user("bob")
	s, _ := e.session(u)
	elsewhere, _ := e.session(u)
	a, b, stranger, deaf := e.told("a"), e.told("b"), e.told("stranger"), e.client("deaf")
	e.grantIn(a, u, s)
	e.grantIn(a, u, s)
	e.grantIn(b, u, s)
	e.grantIn(deaf, u, s)
	e.grantIn(stranger, u, elsewhere)
	if at := must[time.Time](t)(e.NextLogout(e.ctx)); !at.IsZero() || len(e.due()) != 0 {
		t.Errorf("due before anything ended: %v", at)
	}
	e.ok(e.RevokeSession(e.ctx, s.ID))
	due := e.due()
	if got := clientsOf(due); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("told are %v", got)
	}
	for _, l := range due {
		if l.SessionID != s.ID || l.UserID != u.ID || l.ID == "" || l.Attempts != 0 || !l.EndedAt.Equal(e.clock.now()) {
			t.Errorf("the notice %+v", l)
		}
		e.ok(e.EndLogout(e.ctx, l))
	}
	e.ok(e.RevokeSession(e.ctx, s.ID))
	if got := e.due(); len(got) != 0 {
		t.Errorf("told again: %v", got)
	}

	// Another person's login in the same browser ends the session, too.
	s, cookie := e.session(u)
	e.grantIn(a, u, s)
	_, err := e.ReplaceSession(e.ctx, cookie, store.Session{
		ID: "sid_new", Cookie: store.HashOf("new"), UserID: other.ID, AuthTime: e.clock.now(), ExpiresAt: e.clock.now().Add(time.Hour),
	})
	e.ok(err)
	if got := e.due(); len(got) != 1 || got[0].SessionID != s.ID {
		t.Errorf("after another's login: %v", got)
	}
}

// Whoever a person has allowed something is told that all of it has ended.
func testLogoutsOfUsers(t *testing.T, e *env) {
	a := e.told("a")
	e.told("stranger")
	for name, end := range map[string]func(id string) error{
		"revoke":   func(id string) error { return e.RevokeUser(e.ctx, id) },
		"password": func(id string) error { return e.SetPassword(e.ctx, id, "$argon2id$") },
		"delete":   func(id string) error { return e.DeleteUser(e.ctx, id) },
	} {
		u := e.user(name)
		e.ok(e.SaveConsent(e.ctx, u.ID, a.ID, []string{"read:orders"}))
		e.ok(end(u.ID))
		due := e.due()
		if len(due) != 1 || due[0].ClientID != "a" || due[0].UserID != u.ID || due[0].SessionID != "" {
			t.Fatalf("%s: told %+v", name, due)
		}
		e.ok(e.EndLogout(e.ctx, due[0]))
	}
}

// A notice that could not be brought comes again at its time, and survives a
// restart.
func testLogoutRetries(t *testing.T, e *env) {
	u, a := e.user("alice"), e.told("a")
	s, _ := e.session(u)
	e.grantIn(a, u, s)
	e.ok(e.RevokeSession(e.ctx, s.ID))
	first := e.due()[0]
	later := e.clock.now().Add(time.Minute).Truncate(time.Millisecond)
	e.ok(e.RetryLogout(e.ctx, first, later))
	e.ok(e.RetryLogout(e.ctx, first, later)) // a second worker's; changes nothing
	if got := e.due(); len(got) != 0 {
		t.Errorf("due at once: %v", got)
	}
	if at := must[time.Time](t)(e.NextLogout(e.ctx)); !at.Equal(later) {
		t.Errorf("next at %v, not %v", at, later)
	}
	e.clock.advance(time.Minute)
	e.Store = e.backend.Reopen(t, e.Store, e.clock.now)
	due := e.due()
	if len(due) != 1 || due[0].ID != first.ID || due[0].Attempts != 1 || !due[0].EndedAt.Equal(first.EndedAt) {
		t.Fatalf("after a minute: %+v", due)
	}
	later = later.Add(time.Hour)
	e.ok(e.PostponeLogout(e.ctx, due[0], later))
	e.ok(e.PostponeLogout(e.ctx, due[0], later.Add(time.Hour))) // a second worker's; changes nothing
	if at := must[time.Time](t)(e.NextLogout(e.ctx)); !at.Equal(later) || len(e.due()) != 0 {
		t.Errorf("put off to %v, not %v", at, later)
	}
	e.clock.advance(time.Hour)
	if due = e.due(); len(due) != 1 || due[0].Attempts != 1 {
		t.Fatalf("put off, which is no attempt: %+v", due)
	}
	e.ok(e.EndLogout(e.ctx, due[0]))
	e.ok(e.PostponeLogout(e.ctx, due[0], later)) // it is out
	if at := must[time.Time](t)(e.NextLogout(e.ctx)); !at.IsZero() || len(e.due()) != 0 {
		t.Errorf("it is not out: %v", at)
	}
}
