package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testCodes(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	r, refresh := e.redemption(f)
	expires := e.clock.now().Add(48 * time.Hour)
	r.Decide = func(c store.Code) (store.Terms, error) {
		if diff := cmp.Diff(f.code, c); diff != "" {
			t.Error(diff)
		}
		return store.Terms{ExpiresAt: expires, Refresh: store.HashOf(refresh)}, nil
	}
	issued := must[store.Issuance](t)(e.RedeemCode(e.ctx, r))
	want := store.Grant{
		ID: r.GrantID, UserID: f.user.ID, ClientID: "app", SessionID: f.session.ID,
		Scopes: f.code.Scopes, Audience: f.code.Audience, AuthTime: f.code.AuthTime,
		IssuedAt: issued.IssuedAt, ExpiresAt: expires,
	}
	if diff := cmp.Diff(want, issued.Grant); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(f.user, issued.User); diff != "" {
		t.Error(diff)
	}
	if issued.Code.Nonce != "n" || issued.IssuedAt.Unix() != e.clock.now().Unix() {
		t.Errorf("nonce %q, issued at %v", issued.Code.Nonce, issued.IssuedAt)
	}
	if diff := cmp.Diff(want, must[store.Grant](t)(e.Grant(e.ctx, r.GrantID))); diff != "" {
		t.Error(diff)
	}
	token, grant, err := e.RefreshToken(e.ctx, store.HashOf(refresh))
	if err != nil || grant.ID != r.GrantID || token.GrantID != r.GrantID || !token.UsedAt.IsZero() {
		t.Errorf("the refresh token: %+v of %+v, %v", token, grant, err)
	}

	f.code = e.code(f)
	r, _ = e.redemption(f)
	r.Decide = nil
	if _, err := e.RedeemCode(e.ctx, r); err == nil {
		t.Error("redeemed on no terms")
	}
	r.Decide = func(store.Code) (store.Terms, error) { return store.Terms{ExpiresAt: expires}, nil }
	must[store.Issuance](t)(e.RedeemCode(e.ctx, r))
	if _, _, err := e.RefreshToken(e.ctx, store.Hash{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refresh token that was not asked for: %v", err)
	}
}

func testCodeRefusals(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	refused := errors.New("wrong verifier")
	dead := f
	dead.session, _ = e.session(f.user)
	e.ok(e.RevokeSession(e.ctx, dead.session.ID))
	if _, err := e.CreateCode(e.ctx, e.draft(dead)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a code in a session that has ended: %v", err)
	}
	mallory := dead
	mallory.session, _ = e.session(e.user("mallory"))
	if _, err := e.CreateCode(e.ctx, e.draft(mallory)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a code in another's session: %v", err)
	}
	if _, err := e.CreateCode(e.ctx, f.code); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a code made twice: %v", err)
	}

	e.client("thief")
	for _, row := range []struct {
		name   string
		change func(*store.Redemption)
		want   error
		after  error // what the right client gets then
	}{
		{"unknown", func(r *store.Redemption) { r.Code = store.HashOf("x") }, store.ErrNotFound, nil},
		{"another client's", func(r *store.Redemption) { r.ClientID = "thief" }, store.ErrNotFound, nil},
		{"failed check", func(r *store.Redemption) {
			r.Decide = func(store.Code) (store.Terms, error) { return store.Terms{}, refused }
		}, refused, store.ErrConsumed},
		{"expired", func(*store.Redemption) { e.clock.advance(time.Minute) }, store.ErrExpired, store.ErrExpired},
	} {
		f.code = e.code(f)
		r, refresh := e.redemption(f)
		attempt := r
		row.change(&attempt)
		if _, err := e.RedeemCode(e.ctx, attempt); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
		if _, err := e.Grant(e.ctx, r.GrantID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a grant was made: %v", row.name, err)
		}
		if _, _, err := e.RefreshToken(e.ctx, store.HashOf(refresh)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a refresh token was made: %v", row.name, err)
		}
		if _, err := e.RedeemCode(e.ctx, r); !errors.Is(err, row.after) {
			t.Errorf("%s: then the right request: %v, want %v", row.name, err, row.after)
		}
	}
}

// RFC 6749 §4.1.2: a code used twice revokes what its first use issued.
func testCodeReplay(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	r, refresh := e.redemption(f)
	_, err := e.RedeemCode(e.ctx, r)
	e.ok(err)
	_, bystander, _ := e.granted("other", "bob")
	e.clock.advance(time.Hour) // also long after the code itself has expired
	_, _, err = e.Sweep(e.ctx, 1000)
	e.ok(err)

	thief := r
	thief.ClientID = "other"
	if _, err := e.RedeemCode(e.ctx, thief); !errors.Is(err, store.ErrNotFound) || e.last() != 0 {
		t.Errorf("another client ends the grant: %v", err)
	}
	again, _ := e.redemption(f)
	for i := range 3 {
		if _, err := e.RedeemCode(e.ctx, again); !errors.Is(err, store.ErrConsumed) || errors.Is(err, store.ErrReplayed) != (i > 0) {
			t.Errorf("replay %d: %v", i, err)
		}
	}
	e.recordedOnce()
	if entries := e.logged(0); len(entries) != 1 || entries[0].Kind != store.KindGrant || entries[0].ID != r.GrantID ||
		entries[0].ExpiresAt.Before(e.clock.now().Add(Retention)) {
		t.Errorf("the log has %v", entries)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", refresh)); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("the refresh token: %v", err)
	}
	if _, err := e.Grant(e.ctx, bystander.ID); err != nil {
		t.Errorf("another grant: %v", err)
	}
}

// recordedOnce wants one record of a replay: a used code that comes again and
// again must not fill the log.
func (e *env) recordedOnce() {
	e.t.Helper()
	if found := e.events(store.EventQuery{Name: store.EventReplay}); len(found) != 1 {
		e.t.Errorf("replays are recorded as %+v", found)
	}
}

// parallel is how many race.
const parallel = 32

// race runs f in parallel and returns what each got.
func race(f func(i int) error) (results [parallel]error) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range parallel {
		wg.Go(func() {
			<-start
			results[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return results
}

func testCodeRace(t *testing.T, e *env) {
	f := e.flow("app", "alice")
	var redemptions [parallel]store.Redemption
	for i := range redemptions {
		redemptions[i], _ = e.redemption(f)
	}
	won := 0
	var winner store.Redemption
	for i, err := range race(func(i int) error { return second(e.RedeemCode(e.ctx, redemptions[i])) }) {
		switch {
		case err == nil:
			won++
			winner = redemptions[i]
		case !errors.Is(err, store.ErrConsumed):
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d redeemed one code", won, parallel)
	}
	if entries := e.logged(0); len(entries) != 1 || entries[0].ID != winner.GrantID {
		t.Errorf("the winner's grant was not revoked: %v", entries)
	}
	e.recordedOnce()
}
