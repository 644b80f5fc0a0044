package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// RotateRefresh implements store.Grants.
func (db *DB) RotateRefresh(ctx context.Context, r store.Rotation) (issued store.Issuance, err error) {
	if r.Successor.IsZero() || r.Successor == r.Token {
		return store.Issuance{}, errors.New("refresh token: a rotation names a successor")
	}
	err = db.write(ctx, func(t *txn) (err error) {
		issued, err = t.rotate(r)
		return err
	})
	if err != nil {
		return store.Issuance{}, fmt.Errorf("refresh token: %w", err)
	}
	return issued, nil
}

func (t *txn) rotate(r store.Rotation) (store.Issuance, error) {
	token, err := t.refreshToken(r.Token)
	if err != nil {
		return store.Issuance{}, err
	}
	issued, err := t.liveGrant(token.GrantID)
	if err != nil {
		return store.Issuance{}, err
	}
	if issued.Grant.ClientID != r.ClientID {
		return store.Issuance{}, refuse(store.ErrNotFound)
	}
	if !token.UsedAt.IsZero() {
		return t.reuse(token, issued, r)
	}
	if err := checked(r, issued.Grant); err != nil {
		return store.Issuance{}, err
	}
	token.UsedAt, token.Successor = t.now, r.Successor
	return issued, errors.Join(
		t.putRefresh(token),
		t.addRefresh(issued.Grant, r.Successor),
		t.audit(issueEvent(issued.Grant, "refresh_token")),
	)
}

// reuse answers a used token: a retry whose answer got lost is served again,
// anything else ends the family (RFC 9700 §4.14.2). Once the successor was
// used its holder had the answer, so a repeat is no retry of theirs.
func (t *txn) reuse(token store.RefreshToken, issued store.Issuance, r store.Rotation) (store.Issuance, error) {
	successor, err := t.refreshToken(token.Successor)
	if err != nil {
		return store.Issuance{}, err
	}
	if t.now.Sub(token.UsedAt) >= r.Grace || !successor.UsedAt.IsZero() {
		if err := t.revokeGrant(token.GrantID); err != nil {
			return store.Issuance{}, err
		}
		g := issued.Grant
		if err := t.audit(store.Event{
			Name: store.EventReplay, Result: store.Failure, Reason: "the refresh token was used before",
			Subject: g.UserID, Client: g.ClientID, Session: g.SessionID, Grant: g.ID,
		}); err != nil {
			return store.Issuance{}, err
		}
		return store.Issuance{}, refuse(store.ErrConsumed)
	}
	if token.Successor != r.Successor {
		return store.Issuance{}, refuse(store.ErrConflict)
	}
	if err := checked(r, issued.Grant); err != nil {
		return store.Issuance{}, err
	}
	issued.Repeated = true
	return issued, nil
}

func checked(r store.Rotation, g store.Grant) error {
	if r.Check == nil {
		return nil
	}
	if err := r.Check(g); err != nil {
		return refuse(err)
	}
	return nil
}

// addRefresh stores a family's new last link. It expires with the family: a
// used one must be recognised for as long as the family can be used.
func (t *txn) addRefresh(g store.Grant, hash store.Hash) error {
	if t.has(refreshTokens, hash[:]) {
		return store.ErrConflict
	}
	return errors.Join(
		t.putRefresh(store.RefreshToken{Hash: hash, GrantID: g.ID, IssuedAt: t.now}),
		t.expire(g.ExpiresAt, expireRefresh, hash[:]),
	)
}

// A refresh row is binary, as there are more of them than of anything else:
// issued at, used at (Unix milliseconds, 0: unused), successor, grant id.
const refreshRowHead = 8 + 8 + len(store.Hash{})

func (t *txn) putRefresh(r store.RefreshToken) error {
	value := make([]byte, 0, refreshRowHead+len(r.GrantID))
	value = binary.BigEndian.AppendUint64(value, uint64(r.IssuedAt.UnixMilli()))
	used := int64(0)
	if !r.UsedAt.IsZero() {
		used = r.UsedAt.UnixMilli()
	}
	value = binary.BigEndian.AppendUint64(value, uint64(used))
	value = append(value, r.Successor[:]...)
	return t.put(refreshTokens, r.Hash[:], append(value, r.GrantID...))
}

func (t *txn) refreshToken(hash store.Hash) (store.RefreshToken, error) {
	value := t.Bucket(refreshTokens).Get(hash[:])
	if value == nil {
		return store.RefreshToken{}, refuse(store.ErrNotFound)
	}
	if len(value) <= refreshRowHead {
		return store.RefreshToken{}, fmt.Errorf("decoding a row of %s: it has %d bytes", refreshTokens, len(value))
	}
	r := store.RefreshToken{Hash: hash, GrantID: string(value[refreshRowHead:])}
	r.IssuedAt = time.UnixMilli(int64(binary.BigEndian.Uint64(value))).UTC()
	if used := int64(binary.BigEndian.Uint64(value[8:])); used != 0 {
		r.UsedAt = time.UnixMilli(used).UTC()
	}
	copy(r.Successor[:], value[16:])
	return r, nil
}
