package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// purgedKeyKept is how long gateways are told to refuse a purged key. Whoever
// stole it can sign with it for ever, so this has to outlast every copy of the
// key set that still holds it.
const purgedKeyKept = 90 * 24 * time.Hour

// ListKeys implements store.Keys.
func (db *DB) ListKeys(ctx context.Context) (all []store.Key, err error) {
	err = db.read(ctx, func(t *txn) error {
		all, err = t.keys()
		return err
	})
	return all, err
}

func (t *txn) keys() ([]store.Key, error) {
	all, err := rows[store.Key](t, signingKeys)
	slices.SortFunc(all, func(a, b store.Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

// UpdateKeys implements store.Keys.
func (db *DB) UpdateKeys(ctx context.Context, change func([]store.Key) (store.KeyChange, error)) (all []store.Key, err error) {
	err = db.write(ctx, func(t *txn) error {
		all, err = t.updateKeys(change)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (t *txn) updateKeys(change func([]store.Key) (store.KeyChange, error)) ([]store.Key, error) {
	now, err := t.keys()
	if err != nil {
		return nil, err
	}
	c, err := change(now)
	if err != nil {
		return nil, refuse(err)
	}
	for _, k := range c.Put {
		if err := checkID("key", k.ID); err != nil {
			return nil, err
		}
		if err := errors.Join(
			putRow(t, signingKeys, []byte(k.ID), k),
			t.audit(store.Event{Name: store.EventKeyPut, Detail: k.ID + " " + k.Algorithm + " " + k.State.String()}),
		); err != nil {
			return nil, err
		}
	}
	for _, id := range c.Purge {
		if err := t.purgeKey(id); err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
	}
	for _, id := range c.Delete {
		if err := errors.Join(
			t.delete(signingKeys, []byte(id)),
			t.audit(store.Event{Name: store.EventKeyDelete, Detail: id}),
		); err != nil {
			return nil, err
		}
	}
	return t.keys()
}

func (t *txn) purgeKey(id string) error {
	k, found, err := row[store.Key](t, signingKeys, []byte(id))
	if err != nil {
		return err
	}
	if !found {
		return store.ErrNotFound // a failure, so that what was put is undone
	}
	k.State, k.Sealed, k.RetiredAt = store.KeyPurged, nil, t.now
	if err := errors.Join(
		putRow(t, signingKeys, []byte(id), k),
		t.audit(store.Event{Name: store.EventKeyPurge, Detail: id}),
	); err != nil {
		return err
	}
	return t.log(store.Revocation{Kind: store.KindKey, ID: id, ExpiresAt: t.now.Add(purgedKeyKept)})
}
