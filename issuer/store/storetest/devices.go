package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

const devicesAllowed = 5

// device is a device authorization of a client that waits.
func (e *env) device(clientID string) store.Device {
	e.t.Helper()
	d := store.Device{
		Hash: store.HashOf(store.NewToken("ghd_")), UserCode: store.HashOf(store.NewToken("")), ClientID: clientID,
		Scopes: []string{"openid", "read:orders", "write:orders"}, Audience: []string{"https://orders.example"},
		Interval: 5 * time.Second, ExpiresAt: e.clock.now().Add(10 * time.Minute),
	}
	e.ok(e.CreateDevice(e.ctx, d, devicesAllowed))
	return must[store.Device](e.t)(e.PendingDevice(e.ctx, d.UserCode))
}

func (e *env) allowDevice(d store.Device, s store.Session) {
	e.t.Helper()
	e.ok(e.DecideDevice(e.ctx, store.Decision{UserCode: d.UserCode, Allowed: true, Session: s, Scopes: []string{"openid", "read:orders"}}))
}

func (e *env) poll(d store.Device) (store.Poll, string) {
	refresh := store.NewToken(store.RefreshPrefix)
	terms := store.Terms{ExpiresAt: e.clock.now().Add(720 * time.Hour), Refresh: store.HashOf(refresh)}
	return store.Poll{
		Device: d.Hash, ClientID: d.ClientID, GrantID: store.NewID("gnt_"), Step: 5 * time.Second, Longest: 20 * time.Second,
		Decide: func(store.Device) (store.Terms, error) { return terms, nil },
	}, refresh
}

// polls expects one outcome of a poll.
func (e *env) polls(d store.Device, want error) {
	e.t.Helper()
	p, _ := e.poll(d)
	if _, err := e.PollDevice(e.ctx, p); !errors.Is(err, want) {
		e.t.Errorf("polling: %v, want %v", err, want)
	}
}

func testDevices(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	d := e.device("app")
	if d.State != store.DevicePending || !d.IssuedAt.Equal(e.clock.now()) {
		t.Errorf("it waits as %+v", d)
	}
	e.polls(d, store.ErrPending)
	e.allowDevice(d, f.session)
	if _, err := e.PendingDevice(e.ctx, d.UserCode); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the decision, its user code: %v", err)
	}
	p, refresh := e.poll(d)
	issued := must[store.Issuance](t)(e.PollDevice(e.ctx, p)) // though it asks early: there is no more to wait for
	want := store.Grant{
		ID: p.GrantID, UserID: f.user.ID, ClientID: "app", SessionID: f.session.ID, Scopes: []string{"openid", "read:orders"},
		Audience: d.Audience, AuthTime: f.session.AuthTime, IssuedAt: issued.IssuedAt, ExpiresAt: issued.Grant.ExpiresAt,
	}
	if diff := cmp.Diff(want, issued.Grant); diff != "" || issued.User.ID != f.user.ID {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, must[store.Grant](t)(e.Grant(e.ctx, p.GrantID))); diff != "" {
		t.Error(diff)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", refresh)); err != nil {
		t.Errorf("its refresh token: %v", err)
	}
	e.polls(d, store.ErrConsumed)
	e.polls(d, store.ErrReplayed)
	e.recordedOnce()
	if entries := e.logged(0); len(entries) != 1 || entries[0].ID != p.GrantID || entries[0].Kind != store.KindGrant {
		t.Errorf("after a second fetch the log has %v", entries)
	}
}

// A device that asks too often has to wait longer each time, up to a bound, and
// in step with the store's clock.
func testDevicePace(t *testing.T, e *env) {
	e.flow("app", "alice")
	d := e.device("app")
	e.polls(d, store.ErrPending)
	for _, row := range []struct {
		after time.Duration
		want  error
	}{
		{5 * time.Second, store.ErrPending},
		{5*time.Second - 1, store.ErrSlowDown}, // now 10s
		{9 * time.Second, store.ErrSlowDown},   // now 15s
		{15 * time.Second, store.ErrPending},
		{0, store.ErrSlowDown}, // now 20s
		{0, store.ErrSlowDown}, // still 20s
		{20 * time.Second, store.ErrPending},
	} {
		e.clock.advance(row.after)
		e.polls(d, row.want)
	}
	slow := 0
	for _, err := range race(func(int) error {
		p, _ := e.poll(d)
		return second(e.PollDevice(e.ctx, p))
	}) {
		if errors.Is(err, store.ErrSlowDown) {
			slow++
		}
	}
	if slow != parallel {
		t.Errorf("%d of %d that asked at once are told to slow down", slow, parallel)
	}
}

func testDeviceRefusals(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	e.client("thief")
	d := e.device("app")
	for name, taken := range map[string]store.Device{
		"device code": {Hash: d.Hash, UserCode: store.HashOf("x")}, "user code": {Hash: store.HashOf("x"), UserCode: d.UserCode}, "no code": {},
	} {
		taken.ClientID, taken.ExpiresAt = "app", d.ExpiresAt
		if err := e.CreateDevice(e.ctx, taken, devicesAllowed); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a taken %s: %v", name, err)
		}
	}
	if err := e.CreateDevice(e.ctx, store.Device{Hash: store.HashOf("x"), UserCode: store.HashOf("x"), ClientID: "none"}, 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("for no client: %v", err)
	}
	stolen := d
	stolen.ClientID = "thief"
	e.polls(stolen, store.ErrNotFound)
	e.polls(store.Device{Hash: store.HashOf("unknown"), ClientID: "app"}, store.ErrNotFound)
	if err := e.DecideDevice(e.ctx, store.Decision{UserCode: store.HashOf("unknown")}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deciding on nothing: %v", err)
	}
	dead, _ := e.session(f.user)
	e.ok(e.RevokeSession(e.ctx, dead.ID))
	if err := e.DecideDevice(e.ctx, store.Decision{UserCode: d.UserCode, Allowed: true, Session: dead}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("allowed in a session that has ended: %v", err)
	}
	e.ok(e.DecideDevice(e.ctx, store.Decision{UserCode: d.UserCode}))
	e.polls(d, store.ErrDenied)
	e.polls(d, store.ErrDenied)
	if err := e.DecideDevice(e.ctx, store.Decision{UserCode: d.UserCode, Allowed: true, Session: f.session}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("allowed after it was denied: %v", err)
	}

	d = e.device("app")
	e.allowDevice(d, f.session)
	p, _ := e.poll(d)
	refused := errors.New("not like this")
	p.Decide = func(store.Device) (store.Terms, error) { return store.Terms{}, refused }
	if _, err := e.PollDevice(e.ctx, p); !errors.Is(err, refused) {
		t.Errorf("an error of Decide: %v", err)
	}
	p.Decide = nil
	if _, err := e.PollDevice(e.ctx, p); err == nil {
		t.Error("fetched on no terms")
	}
	e.clock.advance(10 * time.Minute)
	e.polls(d, store.ErrExpired)
	late := e.device("app")
	e.clock.advance(10 * time.Minute)
	if _, err := e.PendingDevice(e.ctx, late.UserCode); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired user code: %v", err)
	}
	if err := e.DecideDevice(e.ctx, store.Decision{UserCode: late.UserCode, Allowed: true, Session: f.session}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("allowed too late: %v", err)
	}
}

// What ends between the decision and the fetch ends the authorization.
func testDeviceRevocation(t *testing.T, e *env) {
	for name, end := range map[string]func(flow) error{
		"session":        func(f flow) error { return e.RevokeSession(e.ctx, f.session.ID) },
		"user":           func(f flow) error { return e.RevokeUser(e.ctx, f.user.ID) },
		"client":         func(f flow) error { return e.RevokeClient(e.ctx, f.client.ID) },
		"deleted client": func(f flow) error { return e.DeleteClient(e.ctx, f.client.ID) },
		"deleted user":   func(f flow) error { return e.DeleteUser(e.ctx, f.user.ID) },
	} {
		f := e.flow("app of "+name, "person of "+name)
		d := e.device(f.client.ID)
		e.allowDevice(d, f.session)
		e.ok(end(f))
		p, _ := e.poll(d)
		if _, err := e.PollDevice(e.ctx, p); !errors.Is(err, store.ErrRevoked) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := e.Grant(e.ctx, p.GrantID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a grant was made: %v", name, err)
		}
	}
}

func testDeviceRace(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	d := e.device("app")
	e.allowDevice(d, f.session)
	var polls [parallel]store.Poll
	for i := range polls {
		polls[i], _ = e.poll(d)
	}
	won := 0
	var winner store.Poll
	for i, err := range race(func(i int) error { return second(e.PollDevice(e.ctx, polls[i])) }) {
		switch {
		case err == nil:
			won++
			winner = polls[i]
		case !errors.Is(err, store.ErrConsumed):
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d fetched with one code", won, parallel)
	}
	if entries := e.logged(0); len(entries) != 1 || entries[0].ID != winner.GrantID {
		t.Errorf("the winner's grant was not revoked: %v", entries)
	}
}

// A client can have only so many that wait, others are not touched by it, and
// all of it is swept.
func testDeviceBounds(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	e.client("app2") // whose id begins like the other's
	e.clock.advance(time.Hour)
	f.session, _ = e.session(f.user)
	var all []store.Device
	for range devicesAllowed {
		all = append(all, e.device("app"))
	}
	full := store.Device{Hash: store.HashOf("x"), UserCode: store.HashOf("y"), ClientID: "app", ExpiresAt: e.clock.now().Add(10 * time.Minute)}
	if err := e.CreateDevice(e.ctx, full, devicesAllowed); !errors.Is(err, store.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	e.device("app2")
	e.ok(e.DecideDevice(e.ctx, store.Decision{UserCode: all[0].UserCode}))
	e.device("app")
	e.allowDevice(all[1], f.session)
	if err := e.CreateDevice(e.ctx, full, devicesAllowed); !errors.Is(err, store.ErrFull) {
		t.Errorf("one that was allowed waits no longer: %v", err)
	}
	p, _ := e.poll(all[1])
	must[store.Issuance](t)(e.PollDevice(e.ctx, p))
	e.device("app")
	_, _, err := e.Sweep(e.ctx, 1000)
	e.ok(err)
	e.clock.advance(10*time.Minute + time.Second)
	removed, more, err := e.Sweep(e.ctx, 1000)
	if removed != devicesAllowed+3 || more || err != nil {
		t.Errorf("%d were swept, %t, %v", removed, more, err)
	}
	for i := range devicesAllowed {
		full.Hash, full.UserCode = store.HashOf(fmt.Sprint("d", i)), store.HashOf(fmt.Sprint("u", i))
		full.ExpiresAt = e.clock.now().Add(time.Minute)
		e.ok(e.CreateDevice(e.ctx, full, devicesAllowed))
	}
}
