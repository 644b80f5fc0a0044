package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testUserUpdates(t *testing.T, e *env) {
	f, _, _ := e.granted("app", "alice")
	e.user("bob")
	want := f.user
	want.Login, want.Name, want.Email, want.Roles, want.AllRoles = "alicia", "Alicia", "a@b.example", []string{"reader"}, []string{"reader"}
	got, err := e.UpdateUser(e.ctx, f.user.ID, func(u *store.User) error {
		u.ID, u.CreatedAt, u.NotBefore = "usr_x", time.Time{}, 0 // not an edit's to change
		u.Login, u.Name, u.Email, u.Roles = want.Login, want.Name, want.Email, want.Roles
		return nil
	})
	e.ok(err)
	for how, u := range map[string]store.User{"returned": got, "read": must[store.User](t)(e.UserByLogin(e.ctx, "alicia"))} {
		if diff := cmp.Diff(want, u); diff != "" {
			t.Errorf("%s: %s", how, diff)
		}
	}
	if _, err := e.UserByLogin(e.ctx, "alice"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old login: %v", err)
	}
	if _, err := e.UpdateUser(e.ctx, f.user.ID, func(u *store.User) error { u.Login, u.Name = "bob", "X"; return nil }); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a taken login: %v", err)
	}
	if u := must[store.User](t)(e.User(e.ctx, f.user.ID)); u.Name != "Alicia" {
		t.Errorf("a refused edit was kept in part: %v", u)
	}
	if _, err := e.UpdateUser(e.ctx, "usr_none", func(*store.User) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if e.last() != 0 {
		t.Error("an edit that takes nothing away revoked something")
	}

	e.ok(e.UpgradePassword(e.ctx, f.user.ID, "$argon2id$", "$better"))
	e.ok(e.UpgradePassword(e.ctx, f.user.ID, "$argon2id$", "$late"))
	if u := must[store.User](t)(e.User(e.ctx, f.user.ID)); u.Password != "$better" || e.last() != 0 {
		t.Errorf("the password is %q; %d revocations", u.Password, e.last())
	}
}

func testClientUpdates(t *testing.T, e *env) {
	want := e.client("app")
	want.Name, want.Scopes, want.RedirectURIs = "App", []string{"a"}, []string{"https://a.example/cb"}
	got, err := e.UpdateClient(e.ctx, "app", func(c *store.Client) error {
		c.ID, c.Secret, c.CreatedAt, c.NotBefore = "x", store.HashOf("x"), time.Time{}, 0 // not an edit's to change
		c.Name, c.Scopes, c.RedirectURIs = want.Name, want.Scopes, want.RedirectURIs
		return nil
	})
	e.ok(err)
	for how, c := range map[string]store.Client{"returned": got, "read": must[store.Client](t)(e.Client(e.ctx, "app"))} {
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("%s: %s", how, diff)
		}
	}
	refused := errors.New("no")
	if _, err := e.UpdateClient(e.ctx, "app", func(c *store.Client) error { c.Name = "y"; return refused }); !errors.Is(err, refused) {
		t.Errorf("an edit that fails: %v", err)
	}
	if _, err := e.UpdateClient(e.ctx, "none", func(*store.Client) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown client: %v", err)
	}
	if c := must[store.Client](t)(e.Client(e.ctx, "app")); c.Name != "App" || e.last() != 0 {
		t.Errorf("the client is %v; %d revocations", c, e.last())
	}
	e.ok(e.SetClientSecret(e.ctx, "app", store.HashOf("secret")))
	for _, method := range []string{"private_key_jwt", ""} {
		c, err := e.UpdateClient(e.ctx, "app", func(c *store.Client) error { c.Proof.Method = method; return nil })
		if err != nil || !c.Secret.IsZero() {
			t.Errorf("the secret is still there with the method %q, %v", method, err)
		}
	}
}

// Who is disabled loses everything at once, gets nothing while it lasts, and
// nothing of the old back afterwards.
func testDisabling(t *testing.T, e *env) {
	setUser := func(f flow, disabled bool) error {
		return second(e.UpdateUser(e.ctx, f.user.ID, func(u *store.User) error { u.Disabled = disabled; return nil }))
	}
	setClient := func(f flow, disabled bool) error {
		return second(e.UpdateClient(e.ctx, f.client.ID, func(c *store.Client) error { c.Disabled = disabled; return nil }))
	}
	for name, row := range map[string]struct {
		set  func(flow, bool) error
		kind store.Kind
		id   func(flow) string
	}{
		"user":   {setUser, store.KindSubject, func(f flow) string { return f.user.ID }},
		"client": {setClient, store.KindClient, func(f flow) string { return f.client.ID }},
	} {
		f, grant, refresh := e.granted("app of "+name, "person "+name)
		pending := f
		pending.code = e.code(f)
		e.ok(row.set(f, true))
		if !e.inState(row.kind, row.id(f)) {
			t.Errorf("%s: gateways are not told", name)
		}
		if alive := must[bool](t)(e.Alive(e.ctx, store.TokenRefs{ID: "j", UserID: f.user.ID, ClientID: f.client.ID, IssuedAt: grant.IssuedAt})); alive {
			t.Errorf("%s: an access token is alive", name)
		}
		if _, err := e.CreateCode(e.ctx, e.draft(f)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a new code: %v", name, err)
		}
		_, err := e.CreateSession(e.ctx, store.Session{ID: "s" + name, Cookie: store.HashOf(name), UserID: f.user.ID, ExpiresAt: e.clock.now().Add(time.Hour)})
		if refused := errors.Is(err, store.ErrNotFound); refused != (name == "user") {
			t.Errorf("%s: a new session: %v", name, err)
		}
		for _, when := range []string{"disabled", "enabled again"} {
			if _, err := e.RotateRefresh(e.ctx, rotation(f.client.ID, refresh)); !errors.Is(err, store.ErrRevoked) {
				t.Errorf("%s, %s: its refresh token: %v", name, when, err)
			}
			if _, err := e.Grant(e.ctx, grant.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s, %s: its grant: %v", name, when, err)
			}
			_, _, err := e.SessionByCookie(e.ctx, f.session.Cookie)
			if ended := errors.Is(err, store.ErrNotFound); ended != (name == "user") {
				t.Errorf("%s, %s: the session: %v", name, when, err)
			}
			e.ok(row.set(f, false))
		}
		r, _ := e.redemption(pending)
		if _, err := e.RedeemCode(e.ctx, r); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("%s: a code from before: %v", name, err)
		}
		f.session, _ = e.session(f.user)
		if _, err := e.CreateCode(e.ctx, e.draft(f)); err != nil {
			t.Errorf("%s: a new code once enabled again: %v", name, err)
		}
	}
}

func testSessionList(t *testing.T, e *env) {
	u, other := e.user("alice"), e.user("bob")
	var want []string
	for range 5 {
		s, _ := e.session(u)
		want = append(want, s.ID)
	}
	e.session(other)
	slices.Sort(want)
	ended := want[2]
	e.ok(e.RevokeSession(e.ctx, ended))
	want = slices.Delete(want, 2, 3)
	var got []string
	for after := ""; ; {
		some := must[[]store.Session](t)(e.ListSessions(e.ctx, u.ID, after, 3))
		if len(some) == 0 {
			break
		}
		for _, s := range some {
			got, after = append(got, s.ID), s.ID
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("sessions %v, want %v", got, want)
	}
	e.clock.advance(13 * time.Hour)
	if some := must[[]store.Session](t)(e.ListSessions(e.ctx, u.ID, "", 3)); len(some) != 0 {
		t.Errorf("expired sessions are listed: %v", some)
	}
}

func testConsentList(t *testing.T, e *env) {
	u, other := e.user("alice"), e.user("bob")
	for _, id := range []string{"a", "b", "c"} {
		e.client(id)
		e.ok(e.SaveConsent(e.ctx, u.ID, id, []string{"read:" + id}))
	}
	e.ok(e.SaveConsent(e.ctx, other.ID, "a", nil))
	e.ok(e.DeleteClient(e.ctx, "b"))
	first := must[[]store.Consent](t)(e.ListConsents(e.ctx, u.ID, "", 1))
	if len(first) != 1 || first[0].ClientID != "a" || !slices.Equal(first[0].Scopes, []string{"read:a"}) {
		t.Fatalf("the first page is %v", first)
	}
	if rest := must[[]store.Consent](t)(e.ListConsents(e.ctx, u.ID, "a", 9)); len(rest) != 1 || rest[0].ClientID != "c" {
		t.Errorf("the rest is %v", rest)
	}
}
