package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// logoutKey orders the outbox by when a notice is due.
func logoutKey(l store.Logout) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(l.ID)), uint64(max(0, l.DueAt.UnixMilli())))
	return append(key, l.ID...)
}

func dueAt(key []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key))).UTC()
}

// tellOfSession enters the end of a session for the clients that had a grant in
// it.
func (t *txn) tellOfSession(userID, sessionID string, grantIDs []string) error {
	told := map[string]bool{}
	for _, id := range grantIDs {
		g, found, err := row[store.Grant](t, grants, []byte(id))
		if err != nil {
			return err
		}
		if !found || told[g.ClientID] {
			continue
		}
		told[g.ClientID] = true
		if err := t.tell(store.Logout{ClientID: g.ClientID, UserID: userID, SessionID: sessionID}); err != nil {
			return err
		}
	}
	return nil
}

// tellOfUser enters the end of all of a user's sessions for the clients that
// the user had allowed something.
func (t *txn) tellOfUser(userID string) error {
	prefix := pair(userID, "")
	for _, key := range keysUnder(t, consents, prefix) {
		if err := t.tell(store.Logout{ClientID: string(key[len(prefix):]), UserID: userID}); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) tell(l store.Logout) error {
	c, found, err := row[store.Client](t, clients, []byte(l.ClientID))
	if err != nil || !found || c.BackchannelLogoutURI == "" {
		return err
	}
	l.ID, l.EndedAt, l.DueAt = store.NewID("lgo_"), t.now, t.now
	return putRow(t, logouts, logoutKey(l), l)
}

// DueLogouts implements store.Logouts.
func (db *DB) DueLogouts(ctx context.Context, limit int) (due []store.Logout, err error) {
	err = db.read(ctx, func(t *txn) error {
		cursor := t.Bucket(logouts).Cursor()
		for key, value := cursor.First(); key != nil && len(due) < limit && !dueAt(key).After(t.now); key, value = cursor.Next() {
			l, err := decode[store.Logout](logouts, value)
			if err != nil {
				return err
			}
			due = append(due, l)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the logouts that are due: %w", err)
	}
	return due, nil
}

// NextLogout implements store.Logouts.
func (db *DB) NextLogout(ctx context.Context) (at time.Time, err error) {
	err = db.read(ctx, func(t *txn) error {
		if key, _ := t.Bucket(logouts).Cursor().First(); key != nil {
			at = dueAt(key)
		}
		return nil
	})
	return at, err
}

// RetryLogout implements store.Logouts.
func (db *DB) RetryLogout(ctx context.Context, l store.Logout, at time.Time) error {
	return db.moveLogout(ctx, l, l.Attempts+1, at)
}

// PostponeLogout implements store.Logouts.
func (db *DB) PostponeLogout(ctx context.Context, l store.Logout, at time.Time) error {
	return db.moveLogout(ctx, l, l.Attempts, at)
}

func (db *DB) moveLogout(ctx context.Context, l store.Logout, attempts int, at time.Time) error {
	return about("logout", l.ID, db.write(ctx, func(t *txn) error {
		if !t.has(logouts, logoutKey(l)) {
			return nil
		}
		if err := t.delete(logouts, logoutKey(l)); err != nil {
			return err
		}
		next := l
		next.Attempts, next.DueAt = attempts, at.UTC()
		return putRow(t, logouts, logoutKey(next), next)
	}))
}

// EndLogout implements store.Logouts.
func (db *DB) EndLogout(ctx context.Context, l store.Logout) error {
	return about("logout", l.ID, db.write(ctx, func(t *txn) error { return t.delete(logouts, logoutKey(l)) }))
}
