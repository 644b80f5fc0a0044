package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// List is all keys, purged ones included, the oldest first.
func (r *Ring) List(ctx context.Context) ([]store.Key, error) { return r.store.ListKeys(ctx) }

// Rotate publishes a next key for an algorithm, or for every one (empty), which
// signs once the publish lead is over, and returns them. Where one is published
// already it is that: rotating twice in a row makes one new key.
func (r *Ring) Rotate(ctx context.Context, algorithm string) (next []store.Key, err error) {
	algorithms := r.Algorithms()
	if algorithm != "" {
		if _, signs := r.timetable[algorithm]; !signs {
			return nil, fmt.Errorf("there are no keys for %q: %w", algorithm, store.ErrNotFound)
		}
		algorithms = []string{algorithm}
	}
	stored, err := r.change(ctx, func(keys []store.Key, now time.Time) (store.KeyChange, error) {
		return r.timetable.rotate(algorithms, keys, now)
	})
	if err != nil {
		return nil, err
	}
	r.rethink()
	for _, algorithm := range algorithms {
		k := sorted(of(stored, algorithm)).next
		if k == nil {
			return nil, errors.New("rotating the signing keys: no next key is there")
		}
		r.logger.Info("published the next signing key", "kid", k.ID, "algorithm", algorithm, "active_at", k.ActiveAt)
		next = append(next, *k)
	}
	return next, nil
}

// Purge throws a key away at once; every token that it signed is refused. If
// it was the active one, another signs from now on. ErrNotFound: no such key.
func (r *Ring) Purge(ctx context.Context, id string) error {
	if _, err := r.change(ctx, func(keys []store.Key, now time.Time) (store.KeyChange, error) {
		return r.timetable.purge(keys, id, now)
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

// VerifiesUntil is until when tokens that the key signed may be alive, as far
// as is known: for a key that still signs, the longest life from now on.
func (r *Ring) VerifiesUntil(k store.Key) time.Time {
	switch retention := r.timetable.any().retention; k.State {
	case store.KeyRetired:
		return k.RetiredAt.Add(retention)
	case store.KeyActive:
		return r.now().Add(retention)
	default:
		return time.Time{}
	}
}

// RetiresAt is when a key stops signing, or is due to; zero: it is not known
// yet, or never signed. An active key gives way to the next one among all.
func (r *Ring) RetiresAt(k store.Key, all []store.Key) time.Time {
	switch k.State {
	case store.KeyActive:
		if next := sorted(of(all, k.Algorithm)).next; next != nil {
			return next.ActiveAt
		}
		fallthrough
	case store.KeyNext:
		return k.ActiveAt.Add(r.timetable.any().every)
	default:
		return k.RetiredAt
	}
}
