package bolt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// UseOnce implements store.Onces.
func (db *DB) UseOnce(ctx context.Context, what store.Hash, expiresAt time.Time) error {
	err := db.write(ctx, func(t *txn) error {
		if what.IsZero() || t.has(usedOnce, what[:]) {
			return refuse(store.ErrConsumed)
		}
		return errors.Join(t.put(usedOnce, what[:], nil), t.expire(expiresAt, expireUsed, what[:]))
	})
	if err != nil {
		return fmt.Errorf("using once: %w", err)
	}
	return nil
}

// PushRequest implements store.PushedRequests.
func (db *DB) PushRequest(ctx context.Context, p store.PushedRequest) error {
	return aboutRequest(db.write(ctx, func(t *txn) error {
		if p.Hash.IsZero() || t.has(pushedRequests, p.Hash[:]) {
			return refuse(store.ErrConflict)
		}
		return errors.Join(putRow(t, pushedRequests, p.Hash[:], p), t.expire(p.ExpiresAt, expirePushed, p.Hash[:]))
	}))
}

// TakeRequest implements store.PushedRequests.
func (db *DB) TakeRequest(ctx context.Context, request store.Hash, clientID string) (taken store.PushedRequest, err error) {
	err = db.write(ctx, func(t *txn) error {
		p, err := need[store.PushedRequest](t, pushedRequests, request[:])
		switch {
		case err != nil:
			return err
		case p.ClientID != clientID:
			return refuse(store.ErrNotFound)
		case !t.now.Before(p.ExpiresAt):
			return refuse(store.ErrExpired)
		}
		taken = p
		return errors.Join(t.delete(pushedRequests, request[:]), t.unexpire(p.ExpiresAt, expirePushed, request[:]))
	})
	if err != nil {
		return store.PushedRequest{}, aboutRequest(err)
	}
	return taken, nil
}

func aboutRequest(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pushed request: %w", err)
}
