package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

// events are all that a query selects, read in pages.
func (e *env) events(q store.EventQuery) (all []store.Event) {
	e.t.Helper()
	q.Limit = 3
	for {
		some, next, more, err := e.Events(e.ctx, q)
		e.ok(err)
		all = append(all, some...)
		if !more {
			return all
		}
		q.After = next
	}
}

// verified is the end of a log whose every seal holds.
func (e *env) verified() (head store.EventHead) {
	e.t.Helper()
	for more := true; more; {
		var err error
		head, more, err = e.VerifyEvents(e.ctx, head, 2)
		e.ok(err)
	}
	return head
}

func testAudit(t *testing.T, e *env) {
	began := e.clock.now()
	e.ok(e.RecordEvents(e.ctx, nil))
	for i := range 10 {
		e.ok(e.RecordEvents(e.ctx, []store.Event{
			{Name: "login", Result: store.Failure, Reason: "wrong", Subject: "usr_1", Address: "192.0.2.1", At: e.clock.now().Add(-100 * time.Millisecond)},
			{Name: "token.issue", Client: fmt.Sprint("c", i%2)},
		}))
		e.clock.advance(time.Minute)
	}
	all := e.events(store.EventQuery{})
	want := store.Event{Sequence: 2, At: began, Name: "token.issue", Result: store.Success, Client: "c0"}
	if diff := cmp.Diff(want, all[1]); diff != "" || len(all) != 20 {
		t.Errorf("%d events; %s", len(all), diff)
	}
	for i, event := range all {
		if event.Sequence != uint64(i)+1 {
			t.Errorf("event %d has sequence %d", i, event.Sequence)
		}
	}
	for name, row := range map[string]struct {
		q    store.EventQuery
		want int
	}{
		"name":     {store.EventQuery{Name: "login"}, 10},
		"family":   {store.EventQuery{Name: "token"}, 10},
		"result":   {store.EventQuery{Result: store.Failure}, 10},
		"client":   {store.EventQuery{Client: "c1"}, 5},
		"subject":  {store.EventQuery{Subject: "usr_1"}, 10},
		"nobody":   {store.EventQuery{Subject: "usr_2"}, 0},
		"since":    {store.EventQuery{Since: began.Add(9 * time.Minute)}, 1},
		"later":    {store.EventQuery{Since: began.Add(time.Hour)}, 0},
		"until":    {store.EventQuery{Until: began}, 2},
		"between":  {store.EventQuery{Since: began.Add(time.Minute), Until: began.Add(2 * time.Minute)}, 3},
		"after":    {store.EventQuery{After: 18}, 2},
		"past end": {store.EventQuery{After: 99}, 0},
	} {
		if got := e.events(row.q); len(got) != row.want {
			t.Errorf("%s: %d events, want %d", name, len(got), row.want)
		}
	}
	if head := e.verified(); head.Sequence != 20 || head.Seal.IsZero() {
		t.Errorf("the head is %v", head)
	}
}

// Every change leaves its record, with its origin; what changes nothing, and so
// costs strangers nothing, leaves none.
func testAuditOfChanges(t *testing.T, e *env) {
	e.ctx = store.WithOrigin(e.ctx, store.Origin{Actor: "uid 1000", Address: "192.0.2.7"})
	f, grant, refresh := e.granted("app", "alice")
	g := e.group("staff")
	r, hash := e.registrationToken(5)
	user := func(edit func(*store.User)) error {
		return second(e.UpdateUser(e.ctx, f.user.ID, func(u *store.User) error { edit(u); return nil }))
	}
	redemption, _ := e.redemption(f)
	reuse := rotation("app", refresh)
	reuse.Grace = 0
	revoked := errors.New("revoked")
	for _, step := range []struct {
		do   func() error
		want []string
	}{
		{func() error { return second(e.RotateRefresh(e.ctx, rotation("app", refresh))) }, []string{"token.issue"}},
		{func() error { return second(e.RotateRefresh(e.ctx, reuse)) }, []string{"grant.revoke", "token.replay"}},
		{func() error { return second(e.RedeemCode(e.ctx, redemption)) }, []string{"token.replay"}},
		{func() error { return second(e.RotateRefresh(e.ctx, rotation("app", "guess"))) }, nil},
		{func() error { return e.RevokeGrant(e.ctx, grant.ID) }, nil},
		{func() error { return e.RevokeToken(e.ctx, "jti", e.clock.now().Add(time.Hour)) }, []string{"token.revoke"}},
		{func() error { return e.SaveConsent(e.ctx, f.user.ID, "app", []string{"a"}) }, []string{"consent.give"}},
		{func() error { return e.RevokeConsent(e.ctx, f.user.ID, "app") }, []string{"consent.revoke"}},
		{func() error { return e.RevokeConsent(e.ctx, f.user.ID, "app") }, nil},
		{func() error { return e.RevokeSession(e.ctx, f.session.ID) }, []string{"session.revoke"}},
		{func() error { return user(func(u *store.User) { u.Roles = nil }) }, []string{"user.update"}},
		{func() error { return e.UpgradePassword(e.ctx, f.user.ID, "$argon2id$", "$n") }, []string{"user.rehash"}},
		{func() error { return e.SetPassword(e.ctx, f.user.ID, "$m") }, []string{"user.password"}},
		{func() error { return e.RevokeUser(e.ctx, f.user.ID) }, []string{"user.revoke"}},
		{func() error { return e.DeleteUser(e.ctx, f.user.ID) }, []string{"user.delete"}},
		{func() error {
			return second(e.UpdateGroup(e.ctx, g.ID, func(g *store.Group) error { g.Name = "x"; return nil }))
		}, []string{"group.update"}},
		{func() error { return e.DeleteGroup(e.ctx, g.ID) }, []string{"group.delete"}},
		{func() error { return e.SetClientSecret(e.ctx, "app", store.HashOf("x")) }, []string{"client.secret"}},
		{func() error {
			return second(e.UpdateClient(e.ctx, "app", func(c *store.Client) error { c.Name = "x"; return nil }))
		}, []string{"client.update"}},
		{func() error { return e.RevokeClient(e.ctx, "app") }, []string{"client.revoke"}},
		{func() error { return e.DeleteClient(e.ctx, "app") }, []string{"client.delete"}},
		{func() error { return e.RegisterClient(e.ctx, registering("own", "1"), hash) }, []string{"client.register"}},
		{func() error {
			return second(e.UpdateRegistration(e.ctx, "own", store.HashOf("1"), func(*store.Client) error { return nil }))
		}, []string{"client.reregister"}},
		{func() error { return e.DeleteRegistration(e.ctx, "own", store.HashOf("1")) }, []string{"client.unregister"}},
		{func() error { return e.DeleteRegistrationToken(e.ctx, r.ID) }, []string{"registration_token.delete"}},
		{func() error {
			return second(e.UpdateKeys(e.ctx, put(store.Key{ID: "k", State: store.KeyActive})))
		}, []string{"key.put"}},
		{func() error {
			return second(e.UpdateKeys(e.ctx, func([]store.Key) (store.KeyChange, error) { return store.KeyChange{Purge: []string{"k"}}, nil }))
		}, []string{"key.purge"}},
		{func() error {
			return second(e.UpdateKeys(e.ctx, func([]store.Key) (store.KeyChange, error) { return store.KeyChange{}, revoked }))
		}, nil},
	} {
		before := e.verified()
		_ = step.do() // its outcome is other tests' matter
		var names []string
		for _, event := range e.events(store.EventQuery{After: before.Sequence}) {
			names = append(names, event.Name)
			if event.Actor != "uid 1000" || event.Address != "192.0.2.7" || !event.At.Equal(e.clock.now()) {
				t.Errorf("%s: %+v", event.Name, event)
			}
		}
		if !slices.Equal(names, step.want) {
			t.Errorf("recorded %v, want %v", names, step.want)
		}
	}
	first := e.events(store.EventQuery{})[:6]
	var names []string
	for _, event := range first {
		names = append(names, event.Name)
	}
	if want := []string{"client.create", "user.create", "session.start", "authorization", "token.issue", "group.create"}; !slices.Equal(names, want) {
		t.Errorf("the first records are %v, want %v", names, want)
	}
	if last := first[4]; last.Subject != f.user.ID || last.Client != "app" || last.Session != f.session.ID || last.Grant != grant.ID || last.Detail != "authorization_code" {
		t.Errorf("the redemption is %+v", last)
	}
}

// Old records go in steps, and the seals of the rest still hold.
func testAuditSweep(t *testing.T, e *env) {
	for range 10 {
		e.ok(e.RecordEvents(e.ctx, []store.Event{{Name: "login"}}))
		e.clock.advance(24 * time.Hour)
	}
	e.clock.advance(85*24*time.Hour + time.Second)
	removed, more, err := e.Sweep(e.ctx, 3)
	if removed != 3 || !more || err != nil {
		t.Errorf("a step removed %d, %v, %v", removed, more, err)
	}
	e.verified()
	_, _, err = e.Sweep(e.ctx, 100)
	e.ok(err)
	if left := e.events(store.EventQuery{}); len(left) != 4 || left[0].Sequence != 7 {
		t.Errorf("left are %v", left)
	}
	e.clock.advance(24 * time.Hour * 90)
	_, _, err = e.Sweep(e.ctx, 100)
	e.ok(err)
	if head := e.verified(); head.Sequence != 10 {
		t.Errorf("the head of an emptied log is %v", head)
	}
	e.ok(e.RecordEvents(e.ctx, []store.Event{{Name: "login"}}))
	if head := e.verified(); head.Sequence != 11 || len(e.events(store.EventQuery{Since: e.clock.now()})) != 1 {
		t.Errorf("the head is %v", head)
	}
}
