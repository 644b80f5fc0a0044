package bolt

import (
	"context"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Grant implements store.Grants.
func (db *DB) Grant(ctx context.Context, id string) (g store.Grant, err error) {
	err = db.read(ctx, func(t *txn) error {
		live, err := t.liveGrant(id)
		g = live.Grant
		return ended(err)
	})
	return g, about("grant", id, err)
}

// ended makes one answer of all the ways in which a grant can have ended.
func ended(err error) error {
	if errors.Is(err, store.ErrExpired) || errors.Is(err, store.ErrRevoked) {
		return refuse(store.ErrNotFound)
	}
	return err
}

// liveGrant is a grant that is still good, as an issuance from it: else the
// verdict is ErrNotFound, ErrExpired or ErrRevoked.
func (t *txn) liveGrant(id string) (store.Issuance, error) {
	g, err := need[store.Grant](t, grants, []byte(id))
	if err != nil {
		return store.Issuance{}, err
	}
	if !t.now.Before(g.ExpiresAt) {
		return store.Issuance{}, refuse(store.ErrExpired)
	}
	notBefore, u, err := t.parties(g.ClientID, g.UserID)
	if errors.Is(err, store.ErrNotFound) {
		return store.Issuance{}, refuse(store.ErrRevoked)
	}
	if err != nil {
		return store.Issuance{}, err
	}
	if !g.RevokedAt.IsZero() || g.IssuedAt.Unix() <= notBefore {
		return store.Issuance{}, refuse(store.ErrRevoked)
	}
	return store.Issuance{Grant: g, User: u, IssuedAt: store.IssuedAt(t.now, notBefore)}, nil
}

// RevokeGrant implements store.Grants.
func (db *DB) RevokeGrant(ctx context.Context, id string) error {
	return about("grant", id, db.write(ctx, func(t *txn) error { return t.revokeGrant(id) }))
}

func (t *txn) revokeGrant(id string) error {
	g, err := need[store.Grant](t, grants, []byte(id))
	if err != nil || !g.RevokedAt.IsZero() {
		return err
	}
	g.RevokedAt = t.now
	return errors.Join(
		putRow(t, grants, []byte(id), g),
		t.log(store.Revocation{Kind: store.KindGrant, ID: id, ExpiresAt: t.now.Add(t.retention)}),
		t.audit(store.Event{Name: store.EventGrantRevoke, Subject: g.UserID, Client: g.ClientID, Session: g.SessionID, Grant: id}),
	)
}

// dropGrant removes an expired grant and its link to its session.
func (t *txn) dropGrant(id []byte) error {
	g, found, err := row[store.Grant](t, grants, id)
	if err != nil || !found {
		return err
	}
	return errors.Join(t.delete(sessionGrants, pair(g.SessionID, g.ID)), t.delete(grants, id))
}

// RefreshToken implements store.Grants.
func (db *DB) RefreshToken(ctx context.Context, token store.Hash) (r store.RefreshToken, g store.Grant, err error) {
	err = db.read(ctx, func(t *txn) error {
		found, err := t.refreshToken(token)
		if err != nil {
			return err
		}
		live, err := t.liveGrant(found.GrantID)
		if err != nil {
			return ended(err)
		}
		r, g = found, live.Grant
		return nil
	})
	if err != nil {
		return store.RefreshToken{}, store.Grant{}, fmt.Errorf("refresh token: %w", err)
	}
	return r, g, nil
}
