package keys

import (
	"context"
	"errors"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// List is all keys, purged ones included, the oldest first.
func (r *Ring) List(ctx context.Context) ([]store.Key, error) { return r.store.ListKeys(ctx) }

// Rotate publishes a next key, which signs once the publish lead is over, and
// returns it. Where one is published already it is that: rotating twice in a
// row makes one new key.
func (r *Ring) Rotate(ctx context.Context) (store.Key, error) {
	stored, err := r.change(ctx, r.schedule.rotate)
	if err != nil {
		return store.Key{}, err
	}
	r.rethink()
	next := sorted(stored).next
	if next == nil {
		return store.Key{}, errors.New("rotating the signing keys: no next key is there")
	}
	r.logger.Info("published the next signing key", "kid", next.ID, "active_at", next.ActiveAt)
	return *next, nil
}

// Purge throws a key away at once; every token that it signed is refused. If
// it was the active one, another signs from now on. ErrNotFound: no such key.
func (r *Ring) Purge(ctx context.Context, id string) error {
	if _, err := r.change(ctx, func(keys []store.Key, now time.Time) (store.KeyChange, error) {
		return r.schedule.purge(keys, id, now)
	}); err != nil {
		return err
	}
	r.logger.Warn("purged a signing key; what it signed is refused", "kid", id)
	r.rethink()
	return nil
}

// rethink makes Run look when something is due.
func (r *Ring) rethink() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}
