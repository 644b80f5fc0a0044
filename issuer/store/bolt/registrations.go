package bolt

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateRegistrationToken implements store.Registrations.
func (db *DB) CreateRegistrationToken(ctx context.Context, r store.RegistrationToken) error {
	if err := checkID("registration token", r.ID); err != nil {
		return err
	}
	return about("registration token", r.ID, db.write(ctx, func(t *txn) error {
		if r.Hash.IsZero() || t.has(registrationTokens, []byte(r.ID)) || t.has(registrationHashes, r.Hash[:]) {
			return refuse(store.ErrConflict)
		}
		row := r
		row.CreatedAt = t.now
		return errors.Join(
			putRow(t, registrationTokens, []byte(r.ID), row),
			t.put(registrationHashes, r.Hash[:], []byte(r.ID)),
			t.expire(r.ExpiresAt, expireRegistration, []byte(r.ID)),
			t.audit(store.Event{Name: store.EventRegistration, Detail: r.ID}),
		)
	}))
}

// RegistrationToken implements store.Registrations.
func (db *DB) RegistrationToken(ctx context.Context, hash store.Hash) (r store.RegistrationToken, err error) {
	err = db.read(ctx, func(t *txn) error {
		r, err = t.registrationToken(hash)
		return err
	})
	return r, err
}

// registrationToken is one that can still be used.
func (t *txn) registrationToken(hash store.Hash) (store.RegistrationToken, error) {
	r, err := need[store.RegistrationToken](t, registrationTokens, t.Bucket(registrationHashes).Get(hash[:]))
	if err == nil && (r.UsesLeft < 1 || !t.now.Before(r.ExpiresAt)) {
		err = refuse(store.ErrNotFound)
	}
	if err != nil {
		return store.RegistrationToken{}, err
	}
	return r, nil
}

// ListRegistrationTokens implements store.Registrations.
func (db *DB) ListRegistrationTokens(ctx context.Context) (live []store.RegistrationToken, err error) {
	err = db.read(ctx, func(t *txn) error {
		live, err = rows[store.RegistrationToken](t, registrationTokens)
		live = slices.DeleteFunc(live, func(r store.RegistrationToken) bool { return !t.now.Before(r.ExpiresAt) })
		return err
	})
	slices.SortStableFunc(live, func(a, b store.RegistrationToken) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return live, err
}

// DeleteRegistrationToken implements store.Registrations.
func (db *DB) DeleteRegistrationToken(ctx context.Context, id string) error {
	return about("registration token", id, db.write(ctx, func(t *txn) error {
		r, err := need[store.RegistrationToken](t, registrationTokens, []byte(id))
		if err != nil {
			return err
		}
		return errors.Join(
			t.unexpire(r.ExpiresAt, expireRegistration, []byte(id)),
			t.dropRegistrationToken([]byte(id)),
			t.audit(store.Event{Name: store.EventRegistrationEnd, Detail: id}),
		)
	}))
}

func (t *txn) dropRegistrationToken(id []byte) error {
	r, found, err := row[store.RegistrationToken](t, registrationTokens, id)
	if err != nil || !found {
		return err
	}
	return errors.Join(t.delete(registrationHashes, r.Hash[:]), t.delete(registrationTokens, id))
}

// RegisterClient implements store.Registrations.
func (db *DB) RegisterClient(ctx context.Context, c store.Client, token store.Hash) error {
	if err := checkClientID(c.ID); err != nil {
		return err
	}
	if c.Registration == nil || c.Registration.Token.IsZero() {
		return errors.New("a client that registers itself has a registration access token")
	}
	return about("registration", c.ID, db.write(ctx, func(t *txn) error {
		if token.IsZero() {
			return t.createClient(c, store.EventClientRegister)
		}
		r, err := t.registrationToken(token)
		if err != nil {
			return err
		}
		r.UsesLeft--
		if err := t.createClient(c, store.EventClientRegister); err != nil {
			return err
		}
		return putRow(t, registrationTokens, []byte(r.ID), r)
	}))
}

// UpdateRegistration implements store.Registrations.
func (db *DB) UpdateRegistration(ctx context.Context, id string, token store.Hash, edit func(*store.Client) error) (c store.Client, err error) {
	err = db.write(ctx, func(t *txn) error {
		if err := t.registered(id, token); err != nil {
			return err
		}
		c, err = t.updateClient(id, edit, store.EventClientReregister)
		return err
	})
	return c, about("client", id, err)
}

// DeleteRegistration implements store.Registrations.
func (db *DB) DeleteRegistration(ctx context.Context, id string, token store.Hash) error {
	return about("client", id, db.write(ctx, func(t *txn) error {
		if err := t.registered(id, token); err != nil {
			return err
		}
		return t.deleteClient(id, store.EventClientUnregister)
	}))
}

// registered holds a token against a client that registered itself. Inside the
// transaction, so that of two updates with one token only the first passes.
func (t *txn) registered(id string, token store.Hash) error {
	c, err := need[store.Client](t, clients, []byte(id))
	if err != nil {
		return err
	}
	if c.Registration == nil || c.Disabled || token.IsZero() || subtle.ConstantTimeCompare(c.Registration.Token[:], token[:]) != 1 {
		return refuse(store.ErrNotFound)
	}
	return nil
}
