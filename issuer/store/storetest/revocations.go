package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Whatever was issued before a revocation is dead, also in the same second;
// whatever is issued after it is alive, also in the same second; and a second
// revocation in that second ends that too.
func testNotBefore(t *testing.T, e *env) {
	for name, revoke := range map[string]func(flow) error{
		"client": func(f flow) error { return e.RevokeClient(e.ctx, f.client.ID) },
		"user":   func(f flow) error { return e.RevokeUser(e.ctx, f.user.ID) },
	} {
		f := e.flow(name, name)
		for round := range 3 {
			f.session, _ = e.session(f.user)
			f.code = e.code(f)
			r, refresh := e.redemption(f)
			issued, err := e.RedeemCode(e.ctx, r)
			if err != nil {
				t.Fatalf("%s, round %d: %v", name, round, err)
			}
			refs := store.TokenRefs{UserID: f.user.ID, ClientID: f.client.ID, IssuedAt: issued.IssuedAt}
			if alive := must[bool](t)(e.Alive(e.ctx, refs)); !alive {
				t.Errorf("%s, round %d: a new token is dead", name, round)
			}
			e.ok(revoke(f))
			if alive := must[bool](t)(e.Alive(e.ctx, refs)); alive {
				t.Errorf("%s, round %d: the token is alive", name, round)
			}
			if _, err := e.RotateRefresh(e.ctx, rotation(f.client.ID, refresh)); !errors.Is(err, store.ErrRevoked) {
				t.Errorf("%s, round %d: the refresh token: %v", name, round, err)
			}
		}
	}
	c := must[store.Client](t)(e.Client(e.ctx, "client"))
	if at := store.IssuedAt(e.clock.now(), c.NotBefore); at.Unix() <= c.NotBefore {
		t.Errorf("client_credentials would be issued at %v, not before %d", at, c.NotBefore)
	}
}

func testLog(t *testing.T, e *env) {
	expires := e.clock.now().Add(time.Minute)
	for i := range 5 {
		e.ok(e.RevokeToken(e.ctx, fmt.Sprint("jti", i), expires))
	}
	e.ok(e.RevokeToken(e.ctx, "jti0", expires))          // is so already
	e.ok(e.RevokeToken(e.ctx, "expired", e.clock.now())) // need not be
	if entries := e.logged(2); len(entries) != 3 || entries[0].Sequence != 3 || entries[0].ID != "jti2" || entries[0].Kind != store.KindToken {
		t.Errorf("after 2: %v", entries)
	}
	if part := must[[]store.Revocation](t)(e.Log(e.ctx, 0, 2)); len(part) != 2 || part[1].Sequence != 2 {
		t.Errorf("two from the start: %v", part)
	}
	if entries := e.logged(5); len(entries) != 0 {
		t.Errorf("after the end: %v", entries)
	}
	if _, err := e.Log(e.ctx, 6, 1); !errors.Is(err, store.ErrTrimmed) {
		t.Errorf("after what never was: %v", err)
	}
	if err := e.RevokeToken(e.ctx, "", expires); err == nil || e.last() != 5 {
		t.Errorf("an empty jti: %v", err)
	}
	e.clock.advance(Retention + 2*time.Second)
	_, _, err := e.Sweep(e.ctx, 1000)
	e.ok(err)
	if _, err := e.Log(e.ctx, 2, 1); !errors.Is(err, store.ErrTrimmed) {
		t.Errorf("after what was trimmed: %v", err)
	}
	e.ok(e.RevokeToken(e.ctx, "later", e.clock.now().Add(time.Minute)))
	if entries := e.logged(5); len(entries) != 1 || entries[0].Sequence != 6 {
		t.Errorf("trimming disturbed the sequence: %v", entries)
	}
}

// 64 writers, and a reader who follows the log as the feed does: it sees every
// sequence once, in order.
func testLogIsGapless(t *testing.T, e *env) {
	const writers, each = 64, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := e.RevokeToken(e.ctx, fmt.Sprintf("%d-%d", w, i), e.clock.now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[string]bool{}
	for at := uint64(0); at < writers*each; {
		changed := e.Changed()
		entries := must[[]store.Revocation](t)(e.Log(e.ctx, at, 7))
		for _, r := range entries {
			if r.Sequence != at+1 || seen[r.ID] {
				t.Fatalf("sequence %d (%s) came after %d", r.Sequence, r.ID, at)
			}
			at, seen[r.ID] = r.Sequence, true
		}
		if len(entries) == 0 {
			<-changed
		}
	}
	wg.Wait()
	if e.last() != writers*each {
		t.Errorf("the log ends at %d", e.last())
	}
}

func testState(t *testing.T, e *env) {
	if len(e.state(3)) != 0 {
		t.Error("a new store has revocations")
	}
	c, u := e.client("app"), e.user("alice")
	for i := range 7 {
		e.ok(e.RevokeToken(e.ctx, fmt.Sprint("jti", i), e.clock.now().Add(time.Minute)))
	}
	e.ok(e.RevokeClient(e.ctx, c.ID))
	e.ok(e.RevokeClient(e.ctx, c.ID))
	e.ok(e.RevokeUser(e.ctx, u.ID))
	for _, limit := range []int{1, 3, 9, 100} {
		found := map[string]store.Revocation{}
		for _, r := range e.state(limit) {
			if _, twice := found[r.ID]; twice {
				t.Errorf("in parts of %d: %s is there twice", limit, r.ID)
			}
			found[r.ID] = r
		}
		if len(found) != 9 || found["app"].Sequence != 9 || found["app"].NotBefore != e.clock.now().Unix()+1 {
			t.Errorf("in parts of %d: %v", limit, found)
		}
	}
	e.clock.advance(2 * time.Minute)
	_, _, err := e.Sweep(e.ctx, 1000)
	e.ok(err)
	if left := e.state(100); len(left) != 2 {
		t.Errorf("after the tokens have expired: %v", left)
	}
}

func testAlive(t *testing.T, e *env) {
	f, grant, _ := e.granted("app", "alice")
	_, err := e.UpdateKeys(e.ctx, put(store.Key{ID: "kid", State: store.KeyActive, CreatedAt: e.clock.now()}))
	e.ok(err)
	refs := store.TokenRefs{
		ID: "jti", SessionID: f.session.ID, GrantID: grant.ID, KeyID: "kid",
		UserID: f.user.ID, ClientID: "app", IssuedAt: grant.IssuedAt,
	}
	alive := func() bool { t.Helper(); return must[bool](t)(e.Alive(e.ctx, refs)) }
	if !alive() {
		t.Error("a good token is dead")
	}
	for _, row := range []struct {
		name   string
		revoke func() error
		forget func()
	}{
		{"token", func() error { return e.RevokeToken(e.ctx, "jti", e.clock.now().Add(time.Minute)) }, func() { refs.ID = "" }},
		{"session", func() error { return e.RevokeSession(e.ctx, f.session.ID) }, func() { refs.SessionID = "" }},
		{"key", func() error {
			_, err := e.UpdateKeys(e.ctx, func([]store.Key) (store.KeyChange, error) { return store.KeyChange{Purge: []string{"kid"}}, nil })
			return err
		}, func() { refs.KeyID = "" }},
		{"user", func() error { return e.DeleteUser(e.ctx, f.user.ID) }, func() { refs.UserID = "" }},
		{"client", func() error { return e.DeleteClient(e.ctx, "app") }, func() { refs.ClientID = "" }},
	} {
		e.ok(row.revoke())
		if alive() {
			t.Errorf("%s: the token is alive", row.name)
		}
		row.forget()
		if !alive() {
			t.Errorf("%s: more was revoked than that", row.name)
		}
	}
	_, other, _ := e.granted("app2", "bob")
	refs = store.TokenRefs{GrantID: other.ID, IssuedAt: other.IssuedAt}
	e.ok(e.RevokeGrant(e.ctx, other.ID))
	if alive() {
		t.Error("grant: the token is alive")
	}
	// A token ends with any of those that it was made from, and only with them.
	refs = store.TokenRefs{ID: "child", IssuedAt: e.clock.now(), Ancestors: []store.TokenRefs{
		{ID: "parent", ClientID: "app3", KeyID: "kid3", IssuedAt: e.clock.now()},
		{ID: "grandparent", ClientID: "app4", KeyID: "kid4", IssuedAt: e.clock.now()},
	}}
	e.client("app3")
	e.client("app4")
	for i, revoke := range []func() error{
		func() error { return e.RevokeToken(e.ctx, "parent", e.clock.now().Add(time.Minute)) },
		func() error { return e.RevokeToken(e.ctx, "grandparent", e.clock.now().Add(time.Minute)) },
		func() error { return e.RevokeClient(e.ctx, "app3") },
		func() error { return e.RevokeClient(e.ctx, "app4") },
	} {
		parent := &refs.Ancestors[i%2]
		e.ok(revoke())
		if alive() {
			t.Errorf("ancestor %d: the token is alive", i)
		}
		if i < 2 {
			parent.ID = "other"
		} else {
			parent.ClientID = "other"
		}
		if !alive() {
			t.Errorf("ancestor %d: more was revoked than that", i)
		}
	}
}

func testChanged(t *testing.T, e *env) {
	changed := e.Changed()
	e.user("alice")
	select {
	case <-changed:
		t.Error("woken by a commit that left the log alone")
	default:
	}
	e.ok(e.RevokeToken(e.ctx, "jti", e.clock.now().Add(time.Minute)))
	select {
	case <-changed:
	default:
		t.Error("not woken by the time the writer was answered")
	}
	select {
	case <-e.Changed():
		t.Error("woken twice by one commit")
	default:
	}
}
