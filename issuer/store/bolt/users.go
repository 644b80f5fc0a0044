package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateUser implements store.Users.
func (db *DB) CreateUser(ctx context.Context, u store.User) error {
	if err := checkID("user", u.ID); err != nil {
		return err
	}
	if !strings.HasPrefix(u.ID, store.UserIDPrefix) {
		return errors.New("a user's id begins with " + store.UserIDPrefix)
	}
	if u.Login == "" {
		return errors.New("a user has a login")
	}
	return db.write(ctx, func(t *txn) error {
		if t.has(users, []byte(u.ID)) || t.has(logins, []byte(u.Login)) {
			return refuse(fmt.Errorf("user %q: %w", u.Login, store.ErrConflict))
		}
		row := u
		row.CreatedAt = t.now
		row.NotBefore = t.now.Unix() - 1
		return errors.Join(
			putRow(t, users, []byte(u.ID), row),
			t.put(logins, []byte(u.Login), []byte(u.ID)),
		)
	})
}

// User implements store.Users.
func (db *DB) User(ctx context.Context, id string) (u store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		u, err = need[store.User](t, users, []byte(id))
		return err
	})
	return u, about("user", id, err)
}

// UserByLogin implements store.Users.
func (db *DB) UserByLogin(ctx context.Context, login store.Login) (u store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		u, err = need[store.User](t, users, t.Bucket(logins).Get([]byte(login)))
		return err
	})
	return u, about("user", string(login), err)
}

// ListUsers implements store.Users.
func (db *DB) ListUsers(ctx context.Context) (all []store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		all, err = rows[store.User](t, users)
		return err
	})
	slices.SortFunc(all, func(a, b store.User) int { return cmp.Compare(a.Login, b.Login) })
	return all, err
}

// SetPassword implements store.Users.
func (db *DB) SetPassword(ctx context.Context, id, passwordHash string) error {
	return db.updateUser(ctx, id, func(u *store.User) { u.Password = passwordHash })
}

// RevokeUser implements store.Users.
func (db *DB) RevokeUser(ctx context.Context, id string) error {
	return db.updateUser(ctx, id, func(*store.User) {})
}

// updateUser edits a user and ends all that was issued for them.
func (db *DB) updateUser(ctx context.Context, id string, edit func(*store.User)) error {
	return about("user", id, db.write(ctx, func(t *txn) error {
		u, err := need[store.User](t, users, []byte(id))
		if err != nil {
			return err
		}
		edit(&u)
		if err := t.tellOfUser(id); err != nil {
			return err
		}
		if u.NotBefore, err = t.revokeAll(store.KindSubject, id, u.NotBefore); err != nil {
			return err
		}
		return putRow(t, users, []byte(id), u)
	}))
}

// DeleteUser implements store.Users. Sessions and grants are dead without
// their user; they are swept when they would have expired.
func (db *DB) DeleteUser(ctx context.Context, id string) error {
	return about("user", id, db.write(ctx, func(t *txn) error {
		u, err := need[store.User](t, users, []byte(id))
		if err != nil {
			return err
		}
		if _, err := t.revokeAll(store.KindSubject, id, u.NotBefore); err != nil {
			return err
		}
		if err := t.tellOfUser(id); err != nil {
			return err
		}
		for _, key := range keysUnder(t, consents, pair(id, "")) {
			if err := t.delete(consents, key); err != nil {
				return err
			}
		}
		return errors.Join(t.delete(logins, []byte(u.Login)), t.delete(users, []byte(id)))
	}))
}
