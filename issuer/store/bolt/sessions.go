package bolt

import (
	"context"
	"errors"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateSession implements store.Sessions.
func (db *DB) CreateSession(ctx context.Context, s store.Session) (store.Session, error) {
	if err := checkID("session", s.ID); err != nil {
		return store.Session{}, err
	}
	created := s
	err := db.write(ctx, func(t *txn) (err error) {
		created, err = t.createSession(s)
		return err
	})
	return created, about("session", s.ID, err)
}

func (t *txn) createSession(s store.Session) (store.Session, error) {
	user, err := need[store.User](t, users, []byte(s.UserID))
	if err != nil {
		return s, err
	}
	if user.Disabled {
		return s, refuse(store.ErrNotFound)
	}
	if s.Cookie.IsZero() || t.has(sessions, []byte(s.ID)) || t.has(cookies, s.Cookie[:]) {
		return s, refuse(store.ErrConflict)
	}
	s.IssuedAt = store.IssuedAt(t.now, user.NotBefore)
	return s, errors.Join(
		putRow(t, sessions, []byte(s.ID), s),
		t.put(cookies, s.Cookie[:], []byte(s.ID)),
		t.put(userSessions, pair(s.UserID, s.ID), nil),
		t.expire(s.ExpiresAt, expireSession, []byte(s.ID)),
		t.audit(store.Event{Name: store.EventSessionStart, Subject: s.UserID, Session: s.ID}),
	)
}

// ReplaceSession implements store.Sessions.
func (db *DB) ReplaceSession(ctx context.Context, old store.Hash, s store.Session) (store.Session, error) {
	if err := checkID("session", s.ID); err != nil {
		return store.Session{}, err
	}
	created := s
	err := db.write(ctx, func(t *txn) (err error) {
		created, err = t.replaceSession(old, s)
		return err
	})
	return created, about("session", s.ID, err)
}

func (t *txn) replaceSession(old store.Hash, s store.Session) (store.Session, error) {
	before, _, err := t.liveSession(t.Bucket(cookies).Get(old[:]))
	if errors.Is(err, store.ErrNotFound) {
		return t.createSession(s)
	}
	if err != nil {
		return s, err
	}
	if t.has(cookies, s.Cookie[:]) || !t.has(users, []byte(s.UserID)) {
		return t.createSession(s) // which refuses
	}
	if before.UserID != s.UserID {
		if err := t.revokeSession(before.ID); err != nil {
			return s, err
		}
		return t.createSession(s)
	}
	s.ID = before.ID
	if err := errors.Join(
		t.unexpire(before.ExpiresAt, expireSession, []byte(before.ID)),
		t.dropSession([]byte(before.ID)),
	); err != nil {
		return s, err
	}
	return t.createSession(s)
}

// SessionByCookie implements store.Sessions.
func (db *DB) SessionByCookie(ctx context.Context, cookie store.Hash) (s store.Session, u store.User, err error) {
	err = db.read(ctx, func(t *txn) error {
		s, u, err = t.liveSession(t.Bucket(cookies).Get(cookie[:]))
		return err
	})
	return s, u, err
}

// liveSession is a session and its user, where both are good for something.
func (t *txn) liveSession(id []byte) (store.Session, store.User, error) {
	s, err := need[store.Session](t, sessions, id)
	if err != nil {
		return store.Session{}, store.User{}, err
	}
	u, err := t.user([]byte(s.UserID))
	if err != nil {
		return store.Session{}, store.User{}, err
	}
	if u.Disabled || !t.now.Before(s.ExpiresAt) || s.IssuedAt.Unix() <= u.NotBefore {
		return store.Session{}, store.User{}, refuse(store.ErrNotFound)
	}
	return s, u, nil
}

// RevokeSession implements store.Sessions.
func (db *DB) RevokeSession(ctx context.Context, id string) error {
	if err := checkID("session", id); err != nil {
		return err
	}
	return about("session", id, db.write(ctx, func(t *txn) error { return t.revokeSession(id) }))
}

func (t *txn) revokeSession(id string) error {
	s, found, err := row[store.Session](t, sessions, []byte(id))
	if err != nil {
		return err
	}
	prefix := pair(id, "")
	var ended []string
	for _, key := range keysUnder(t, sessionGrants, prefix) {
		ended = append(ended, string(key[len(prefix):]))
	}
	if found {
		if err := t.tellOfSession(s.UserID, id, ended); err != nil {
			return err
		}
	}
	for _, grant := range ended {
		if err := t.endGrant(grant); err != nil {
			return err
		}
	}
	if err := errors.Join(
		t.dropSession([]byte(id)),
		t.audit(store.Event{Name: store.EventSessionRevoke, Subject: s.UserID, Session: id}),
	); err != nil {
		return err
	}
	return t.log(store.Revocation{Kind: store.KindSession, ID: id, ExpiresAt: t.now.Add(t.retention)})
}

// endGrant marks a grant of a revoked session: its tokens carry the session's
// id, so the log needs no entry of their own.
func (t *txn) endGrant(id string) error {
	g, found, err := row[store.Grant](t, grants, []byte(id))
	if err != nil || !found || !g.RevokedAt.IsZero() {
		return err
	}
	g.RevokedAt = t.now
	return putRow(t, grants, []byte(id), g)
}

// dropSession removes a session where there is one. Its links to grants stay
// as long as the grants do.
func (t *txn) dropSession(id []byte) error {
	s, found, err := row[store.Session](t, sessions, id)
	if err != nil || !found {
		return err
	}
	return errors.Join(t.delete(cookies, s.Cookie[:]), t.delete(userSessions, pair(s.UserID, s.ID)), t.delete(sessions, id))
}

// ListSessions implements store.Sessions.
func (db *DB) ListSessions(ctx context.Context, userID, after string, limit int) (live []store.Session, err error) {
	err = db.read(ctx, func(t *txn) error {
		live = nil
		prefix := pair(userID, "")
		for _, key := range keysUnder(t, userSessions, prefix) {
			id := key[len(prefix):]
			if len(live) == limit || string(id) <= after {
				continue
			}
			s, _, err := t.liveSession(id)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			live = append(live, s)
		}
		return nil
	})
	return live, err
}
