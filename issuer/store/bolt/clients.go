package bolt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateClient implements store.Clients.
func (db *DB) CreateClient(ctx context.Context, c store.Client) error {
	if err := checkID("client", c.ID); err != nil {
		return err
	}
	if strings.HasPrefix(c.ID, store.UserIDPrefix) {
		return errors.New("a client's id must not look like a user's: it begins with " + store.UserIDPrefix)
	}
	return db.write(ctx, func(t *txn) error {
		key := []byte(c.ID)
		if t.has(clients, key) {
			return refuse(fmt.Errorf("client %q: %w", c.ID, store.ErrConflict))
		}
		row := c
		row.CreatedAt = t.now
		// What a deleted client of that id still has out there was issued
		// before now, or is dated into the future by its own not-before.
		row.NotBefore = max(t.now.Unix()-1, t.notBefore(store.KindClient, c.ID))
		return putRow(t, clients, key, row)
	})
}

// Client implements store.Clients.
func (db *DB) Client(ctx context.Context, id string) (c store.Client, err error) {
	err = db.read(ctx, func(t *txn) error {
		c, err = need[store.Client](t, clients, []byte(id))
		return err
	})
	return c, about("client", id, err)
}

// ListClients implements store.Clients.
func (db *DB) ListClients(ctx context.Context) (all []store.Client, err error) {
	err = db.read(ctx, func(t *txn) error {
		all, err = rows[store.Client](t, clients)
		return err
	})
	return all, err
}

// SetClientSecret implements store.Clients.
func (db *DB) SetClientSecret(ctx context.Context, id string, secret store.Hash) error {
	return about("client", id, db.write(ctx, func(t *txn) error {
		c, err := need[store.Client](t, clients, []byte(id))
		if err != nil {
			return err
		}
		c.Secret = secret
		return putRow(t, clients, []byte(id), c)
	}))
}

// RevokeClient implements store.Clients.
func (db *DB) RevokeClient(ctx context.Context, id string) error {
	return about("client", id, db.write(ctx, func(t *txn) error {
		c, err := need[store.Client](t, clients, []byte(id))
		if err != nil {
			return err
		}
		if c.NotBefore, err = t.revokeAll(store.KindClient, id, c.NotBefore); err != nil {
			return err
		}
		return putRow(t, clients, []byte(id), c)
	}))
}

// DeleteClient implements store.Clients.
func (db *DB) DeleteClient(ctx context.Context, id string) error {
	return about("client", id, db.write(ctx, func(t *txn) error {
		c, err := need[store.Client](t, clients, []byte(id))
		if err != nil {
			return err
		}
		if _, err := t.revokeAll(store.KindClient, id, c.NotBefore); err != nil {
			return err
		}
		return t.delete(clients, []byte(id))
	}))
}

// about names what an error concerns.
func about(kind, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", kind, id, err)
}
