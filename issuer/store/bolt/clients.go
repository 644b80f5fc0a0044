package bolt

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateClient implements store.Clients.
func (db *DB) CreateClient(ctx context.Context, c store.Client) error {
	if err := checkClientID(c.ID); err != nil {
		return err
	}
	return db.write(ctx, func(t *txn) error { return t.createClient(c, store.EventClientCreate) })
}

func checkClientID(id string) error {
	if strings.HasPrefix(id, store.UserIDPrefix) {
		return errors.New("a client's id must not look like a user's: it begins with " + store.UserIDPrefix)
	}
	return checkID("client", id)
}

func (t *txn) createClient(c store.Client, event string) error {
	key := []byte(c.ID)
	if t.has(clients, key) {
		return refuse(fmt.Errorf("client %q: %w", c.ID, store.ErrConflict))
	}
	c.CreatedAt = t.now
	// What a deleted client of that id still has out there was issued before
	// now, or is dated into the future by its own not-before.
	c.NotBefore = max(t.now.Unix()-1, t.notBefore(store.KindClient, c.ID))
	return errors.Join(putRow(t, clients, key, c), t.clientsChanged(), t.audit(store.Event{Name: event, Client: c.ID}))
}

// clientsChanged moves the revision on. It is the bucket's sequence, which
// nothing else uses.
func (t *txn) clientsChanged() error {
	if _, err := t.Bucket(clients).NextSequence(); err != nil {
		return fmt.Errorf("counting a change of clients: %w", err)
	}
	return nil
}

// ClientsRevision implements store.Clients.
func (db *DB) ClientsRevision(ctx context.Context) (revision uint64, err error) {
	err = db.read(ctx, func(t *txn) error {
		revision = t.Bucket(clients).Sequence()
		return nil
	})
	return revision, err
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
func (db *DB) ListClients(ctx context.Context, after string, limit int) (some []store.Client, err error) {
	err = db.read(ctx, func(t *txn) error {
		some, err = page[store.Client](t, clients, []byte(after), limit)
		return err
	})
	return some, err
}

// UpdateClient implements store.Clients.
func (db *DB) UpdateClient(ctx context.Context, id string, edit func(*store.Client) error) (c store.Client, err error) {
	err = db.write(ctx, func(t *txn) error {
		c, err = t.updateClient(id, edit, store.EventClientUpdate)
		return err
	})
	return c, about("client", id, err)
}

func (t *txn) updateClient(id string, edit func(*store.Client) error, event string) (store.Client, error) {
	was, err := need[store.Client](t, clients, []byte(id))
	if err != nil {
		return was, err
	}
	c := was
	if err := edit(&c); err != nil {
		return was, refuse(err)
	}
	c.ID, c.Secret, c.CreatedAt, c.NotBefore = was.ID, was.Secret, was.CreatedAt, was.NotBefore
	if c.Proof.Method != "" {
		c.Secret = store.Hash{}
	}
	if c.Disabled && !was.Disabled {
		if c.NotBefore, err = t.revokeAll(store.KindClient, id, c.NotBefore); err != nil {
			return was, err
		}
	}
	return c, errors.Join(
		putRow(t, clients, []byte(id), c), t.clientsChanged(),
		t.audit(store.Event{Name: event, Client: id, Detail: changed(was, c)}),
	)
}

// changed names the fields that an edit changed, never what is in them.
func changed[T any](was, is T) string {
	var names []string
	before, after := reflect.ValueOf(was), reflect.ValueOf(is)
	for i := range before.NumField() {
		name := before.Type().Field(i).Name
		if name != "NotBefore" && name != "AllRoles" && name != "GroupNames" && !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// SetClientSecret implements store.Clients.
func (db *DB) SetClientSecret(ctx context.Context, id string, secret store.Hash) error {
	return about("client", id, db.write(ctx, func(t *txn) error {
		c, err := need[store.Client](t, clients, []byte(id))
		if err != nil {
			return err
		}
		c.Secret = secret
		return errors.Join(putRow(t, clients, []byte(id), c), t.audit(store.Event{Name: store.EventClientSecret, Client: id}))
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
		return errors.Join(putRow(t, clients, []byte(id), c), t.audit(store.Event{Name: store.EventClientRevoke, Client: id}))
	}))
}

// DeleteClient implements store.Clients.
func (db *DB) DeleteClient(ctx context.Context, id string) error {
	return about("client", id, db.write(ctx, func(t *txn) error { return t.deleteClient(id, store.EventClientDelete) }))
}

func (t *txn) deleteClient(id, event string) error {
	c, err := need[store.Client](t, clients, []byte(id))
	if err != nil {
		return err
	}
	if _, err := t.revokeAll(store.KindClient, id, c.NotBefore); err != nil {
		return err
	}
	return errors.Join(t.delete(clients, []byte(id)), t.clientsChanged(), t.audit(store.Event{Name: event, Client: id}))
}

// about names what an error concerns.
func about(kind, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", kind, id, err)
}
