package bolt

import (
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
			t.audit(store.Event{Name: store.EventUserCreate, Subject: u.ID}),
		)
	})
}

// User implements store.Users.
func (db *DB) User(ctx context.Context, id string) (u store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		u, err = t.user([]byte(id))
		return err
	})
	return u, about("user", id, err)
}

// user is a user with all their roles.
func (t *txn) user(id []byte) (store.User, error) {
	u, err := need[store.User](t, users, id)
	if err != nil {
		return u, err
	}
	return u, t.fillRoles(&u)
}

// fillRoles adds up a user's roles. A group that is gone gives none.
func (t *txn) fillRoles(u *store.User) error {
	u.AllRoles, u.GroupNames = slices.Clone(u.Roles), nil
	for _, id := range u.Groups {
		g, found, err := row[store.Group](t, groups, []byte(id))
		if err != nil {
			return err
		}
		if found {
			u.AllRoles = append(u.AllRoles, g.Roles...)
			u.GroupNames = append(u.GroupNames, g.Name)
		}
	}
	slices.Sort(u.GroupNames)
	slices.Sort(u.AllRoles)
	u.AllRoles = slices.Compact(u.AllRoles)
	return nil
}

// UserByLogin implements store.Users.
func (db *DB) UserByLogin(ctx context.Context, login store.Login) (u store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		u, err = t.user(t.Bucket(logins).Get([]byte(login)))
		return err
	})
	return u, about("user", string(login), err)
}

// ListUsers implements store.Users.
func (db *DB) ListUsers(ctx context.Context, after store.Login, limit int) (some []store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		if some, err = indexed[store.User](t, logins, users, []byte(after), limit); err != nil {
			return err
		}
		for i := range some {
			if err := t.fillRoles(&some[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return some, err
}

// SetPassword implements store.Users.
func (db *DB) SetPassword(ctx context.Context, id, passwordHash string) error {
	return about("user", id, db.write(ctx, func(t *txn) error {
		u, err := need[store.User](t, users, []byte(id))
		if err != nil {
			return err
		}
		u.Password = passwordHash
		return errors.Join(t.endUser(&u), t.audit(store.Event{Name: store.EventUserPassword, Subject: id}))
	}))
}

// UpgradePassword implements store.Users.
func (db *DB) UpgradePassword(ctx context.Context, id, oldHash, newHash string) error {
	return about("user", id, db.write(ctx, func(t *txn) error {
		u, err := need[store.User](t, users, []byte(id))
		if err != nil || u.Password != oldHash {
			return err
		}
		u.Password = newHash
		return errors.Join(putRow(t, users, []byte(id), u), t.audit(store.Event{Name: store.EventUserRehash, Subject: id}))
	}))
}

// RevokeUser implements store.Users.
func (db *DB) RevokeUser(ctx context.Context, id string) error {
	return about("user", id, db.write(ctx, func(t *txn) error {
		u, err := need[store.User](t, users, []byte(id))
		if err != nil {
			return err
		}
		return errors.Join(t.endUser(&u), t.audit(store.Event{Name: store.EventUserRevoke, Subject: id}))
	}))
}

// endUser ends all that was issued for a user.
func (t *txn) endUser(u *store.User) (err error) {
	if err := t.tellOfUser(u.ID); err != nil {
		return err
	}
	if u.NotBefore, err = t.revokeAll(store.KindSubject, u.ID, u.NotBefore); err != nil {
		return err
	}
	return putRow(t, users, []byte(u.ID), *u)
}

// UpdateUser implements store.Users.
func (db *DB) UpdateUser(ctx context.Context, id string, edit func(*store.User) error) (u store.User, err error) {
	err = db.write(ctx, func(t *txn) error {
		u, err = t.updateUser(id, edit)
		return err
	})
	return u, about("user", id, err)
}

func (t *txn) updateUser(id string, edit func(*store.User) error) (store.User, error) {
	was, err := t.user([]byte(id))
	if err != nil {
		return was, err
	}
	u := was
	if err := edit(&u); err != nil {
		return was, refuse(err)
	}
	u.ID, u.CreatedAt, u.NotBefore = was.ID, was.CreatedAt, was.NotBefore
	if err := t.relogin(was, u); err != nil {
		return was, err
	}
	// Whoever knew the old password may hold a session.
	if u.Disabled && !was.Disabled || u.Password != was.Password {
		err = t.endUser(&u)
	} else {
		err = putRow(t, users, []byte(id), u)
	}
	return u, errors.Join(err, t.fillRoles(&u), t.audit(store.Event{Name: store.EventUserUpdate, Subject: id, Detail: changed(was, u)}))
}

// relogin moves a user to another login.
func (t *txn) relogin(was, u store.User) error {
	if u.Login == was.Login {
		return nil
	}
	if u.Login == "" || t.has(logins, []byte(u.Login)) {
		return refuse(fmt.Errorf("login %q: %w", u.Login, store.ErrConflict))
	}
	return errors.Join(t.delete(logins, []byte(was.Login)), t.put(logins, []byte(u.Login), []byte(u.ID)))
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
		return errors.Join(
			t.delete(logins, []byte(u.Login)),
			t.delete(users, []byte(id)),
			t.audit(store.Event{Name: store.EventUserDelete, Subject: id}),
		)
	}))
}
