package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func testRotation(t *testing.T, e *env) {
	f, grant, token := e.granted("app", "alice")
	for range 5 {
		e.clock.advance(6 * time.Hour) // the session has expired before the third: the grant lives on
		_, _, err := e.Sweep(e.ctx, 1000)
		e.ok(err)
		issued := must[store.Issuance](t)(e.RotateRefresh(e.ctx, rotation("app", token)))
		if diff := cmp.Diff(grant, issued.Grant); diff != "" || issued.Repeated || issued.User.ID != f.user.ID {
			t.Errorf("%+v, %s", issued, diff)
		}
		if issued.IssuedAt.Unix() != e.clock.now().Unix() {
			t.Errorf("issued at %v", issued.IssuedAt)
		}
		used, _, err := e.RefreshToken(e.ctx, store.HashOf(token))
		if err != nil || used.UsedAt.IsZero() {
			t.Errorf("the predecessor: %+v, %v", used, err)
		}
		token = store.Successor(successorKey, token)
		next, _, err := e.RefreshToken(e.ctx, store.HashOf(token))
		if err != nil || next.Hash != used.Successor || !next.UsedAt.IsZero() {
			t.Errorf("the successor: %+v, %v", next, err)
		}
	}
	e.clock.advance(720 * time.Hour)
	if _, err := e.RotateRefresh(e.ctx, rotation("app", token)); !errors.Is(err, store.ErrExpired) {
		t.Errorf("rotation moved the family's end: %v", err)
	}
}

// A retry within the grace time gets the same successor, for as long as that
// has not been used.
func testRotationGrace(t *testing.T, e *env) {
	_, _, first := e.granted("app", "alice")
	_, err := e.RotateRefresh(e.ctx, rotation("app", first))
	e.ok(err)
	for range 3 {
		e.clock.advance(grace / 4)
		if issued, err := e.RotateRefresh(e.ctx, rotation("app", first)); err != nil || !issued.Repeated {
			t.Errorf("a retry within grace: %+v, %v", issued, err)
		}
	}
	other := rotation("app", first)
	other.Successor = store.HashOf("another")
	if _, err := e.RotateRefresh(e.ctx, other); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a retry that names another successor: %v", err)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", store.Successor(successorKey, first))); err != nil {
		t.Errorf("the successor: %v", err)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", first)); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("within grace, the successor used: %v", err)
	}
}

func testRotationRefusals(t *testing.T, e *env) {
	f, _, token := e.granted("app", "alice")
	e.client("thief")
	refused := errors.New("scope grows")
	for name, row := range map[string]struct {
		change func(*store.Rotation)
		want   error
	}{
		"unknown":          {func(r *store.Rotation) { r.Token = store.HashOf("x") }, store.ErrNotFound},
		"another client's": {func(r *store.Rotation) { r.ClientID = "thief" }, store.ErrNotFound},
		"failed check":     {func(r *store.Rotation) { r.Check = func(store.Grant) error { return refused } }, refused},
	} {
		r := rotation("app", token)
		row.change(&r)
		if _, err := e.RotateRefresh(e.ctx, r); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e.last() != 0 {
		t.Error("a refusal revoked something")
	}
	r := rotation("app", token)
	r.Successor = store.Hash{}
	if _, err := e.RotateRefresh(e.ctx, r); err == nil {
		t.Error("rotated to no successor")
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", token)); err != nil {
		t.Errorf("a refusal used the token up: %v", err)
	}
	thief := rotation("thief", token)
	if _, err := e.RotateRefresh(e.ctx, thief); !errors.Is(err, store.ErrNotFound) || e.last() != 0 {
		t.Errorf("another client's reuse ends the family: %v", err)
	}
	e.ok(e.DeleteUser(e.ctx, f.user.ID))
	if _, err := e.RotateRefresh(e.ctx, rotation("app", store.Successor(successorKey, token))); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("a deleted user's: %v", err)
	}
}

// RFC 9700 §4.14.2: reuse revokes the family, and never another one.
func testRotationReuse(t *testing.T, e *env) {
	f, grant, first := e.granted("app", "alice")
	g := f
	g.code = e.code(f)
	r, sibling := e.redemption(g)
	_, err := e.RedeemCode(e.ctx, r)
	e.ok(err)

	_, err = e.RotateRefresh(e.ctx, rotation("app", first))
	e.ok(err)
	e.clock.advance(grace)
	if _, err := e.RotateRefresh(e.ctx, rotation("app", first)); !errors.Is(err, store.ErrConsumed) {
		t.Errorf("reuse after grace: %v", err)
	}
	if entries := e.logged(0); len(entries) != 1 || entries[0].Kind != store.KindGrant || entries[0].ID != grant.ID {
		t.Errorf("the log has %v", entries)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", store.Successor(successorKey, first))); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("the successor after reuse: %v", err)
	}
	if _, err := e.RotateRefresh(e.ctx, rotation("app", sibling)); err != nil {
		t.Errorf("the same user's other grant to the same client: %v", err)
	}
}

func testRotationRace(t *testing.T, e *env) {
	_, _, token := e.granted("app", "alice")
	var issued [parallel]store.Issuance
	results := race(func(i int) (err error) {
		issued[i], err = e.RotateRefresh(e.ctx, rotation("app", token))
		return err
	})
	rotated := 0
	for i, err := range results {
		if err != nil {
			t.Errorf("within grace: %v", err)
		}
		if err == nil && !issued[i].Repeated {
			rotated++
		}
	}
	if rotated != 1 || e.last() != 0 {
		t.Errorf("%d rotations of one token, %d revocations", rotated, e.last())
	}
}

func testRotationRaceWithoutGrace(t *testing.T, e *env) {
	_, grant, token := e.granted("app", "alice")
	won := 0
	for _, err := range race(func(int) error {
		r := rotation("app", token)
		r.Grace = 0
		return second(e.RotateRefresh(e.ctx, r))
	}) {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, store.ErrConsumed) && !errors.Is(err, store.ErrRevoked):
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d rotated one token", won, parallel)
	}
	if entries := e.logged(0); len(entries) != 1 || entries[0].ID != grant.ID {
		t.Errorf("the log has %v", entries)
	}
}

func testGrantRevocation(t *testing.T, e *env) {
	_, grant, refresh := e.granted("app", "alice")
	e.ok(e.RevokeGrant(e.ctx, grant.ID))
	e.ok(e.RevokeGrant(e.ctx, grant.ID))
	if e.last() != 1 || !e.inState(store.KindGrant, grant.ID) {
		t.Errorf("%d entries", e.last())
	}
	if _, _, err := e.RefreshToken(e.ctx, store.HashOf(refresh)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its refresh token: %v", err)
	}
	if err := e.RevokeGrant(e.ctx, "gnt_none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown grant: %v", err)
	}
}
