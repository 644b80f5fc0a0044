package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// log appends an entry to the revocation log and to what is in force. The
// sequence is drawn inside the transaction: a rollback takes it back, so there
// is never a gap.
func (t *txn) log(r store.Revocation) error {
	if err := checkID("revocation", r.ID); err != nil {
		return err
	}
	sequence, err := t.Bucket(revocationLog).NextSequence()
	if err != nil {
		return fmt.Errorf("drawing a sequence: %w", err)
	}
	r.Sequence = sequence
	t.logged = true
	key := stateKey(r.Kind, r.ID)
	if before, ok := t.inForce(r.Kind, r.ID); ok {
		if err := t.unexpire(before.ExpiresAt, expireRevoked, key); err != nil {
			return err
		}
		r.ExpiresAt = later(r.ExpiresAt, before.ExpiresAt)
	}
	value := encodeRevocation(r)
	entry := append(binary.BigEndian.AppendUint64(nil, uint64(t.now.Unix())), value...)
	return errors.Join(
		t.put(revocationLog, sequenceKey(sequence), entry),
		t.put(revoked, key, value),
		t.expire(r.ExpiresAt, expireRevoked, key),
	)
}

// revokeAll logs a not-before for a subject or client that covers everything
// issued so far, what was dated into the next second included, and returns it.
func (t *txn) revokeAll(kind store.Kind, id string, previous int64) (int64, error) {
	notBefore := max(t.now.Unix(), previous+1)
	return notBefore, t.log(store.Revocation{
		Kind: kind, ID: id, NotBefore: notBefore,
		ExpiresAt: time.Unix(notBefore, 0).Add(t.retention),
	})
}

// notBefore is what the log says of a subject or client.
func (t *txn) notBefore(kind store.Kind, id string) int64 {
	r, _ := t.inForce(kind, id)
	return r.NotBefore
}

func (t *txn) inForce(kind store.Kind, id string) (store.Revocation, bool) {
	key := stateKey(kind, id)
	value := t.Bucket(revoked).Get(key)
	if value == nil {
		return store.Revocation{}, false
	}
	r, err := decodeRevocation(value)
	return r, err == nil
}

// RevokeToken implements store.Revocations.
func (db *DB) RevokeToken(ctx context.Context, jti string, expiresAt time.Time) error {
	return about("token", jti, db.write(ctx, func(t *txn) error {
		if !t.now.Before(expiresAt) {
			return nil
		}
		if _, ok := t.inForce(store.KindToken, jti); ok {
			return nil
		}
		return errors.Join(
			t.log(store.Revocation{Kind: store.KindToken, ID: jti, ExpiresAt: expiresAt}),
			t.audit(store.Event{Name: store.EventTokenRevoke, Detail: jti}),
		)
	}))
}

// Alive implements store.Revocations.
func (db *DB) Alive(ctx context.Context, refs store.TokenRefs) (alive bool, err error) {
	err = db.read(ctx, func(t *txn) error {
		alive = t.alive(refs)
		for _, ancestor := range refs.Ancestors {
			alive = alive && t.alive(ancestor)
		}
		return nil
	})
	return alive, err
}

// alive looks at one token, and not at what it was made from.
func (t *txn) alive(refs store.TokenRefs) bool {
	for kind, id := range map[store.Kind]string{
		store.KindToken: refs.ID, store.KindSession: refs.SessionID,
		store.KindGrant: refs.GrantID, store.KindKey: refs.KeyID,
	} {
		if _, dead := t.inForce(kind, id); dead && id != "" {
			return false
		}
	}
	notBefore := max(t.notBefore(store.KindSubject, refs.UserID), t.notBefore(store.KindClient, refs.ClientID))
	return refs.IssuedAt.Unix() > notBefore
}

// Epoch implements store.Revocations.
func (db *DB) Epoch() string { return db.epoch }

// LastSequence implements store.Revocations.
func (db *DB) LastSequence(ctx context.Context) (last uint64, err error) {
	err = db.read(ctx, func(t *txn) error {
		last = t.Bucket(revocationLog).Sequence()
		return nil
	})
	return last, err
}

// Log implements store.Revocations.
func (db *DB) Log(ctx context.Context, after uint64, limit int) (entries []store.Revocation, err error) {
	err = db.read(ctx, func(t *txn) error {
		bucket := t.Bucket(revocationLog)
		if after == bucket.Sequence() {
			return nil
		}
		if after > bucket.Sequence() || bucket.Get(sequenceKey(after+1)) == nil {
			return store.ErrTrimmed
		}
		cursor := bucket.Cursor()
		for key, value := cursor.Seek(sequenceKey(after + 1)); key != nil && len(entries) < limit; key, value = cursor.Next() {
			r, err := decodeRevocation(value[8:])
			if err != nil {
				return err
			}
			entries = append(entries, r)
		}
		return nil
	})
	return entries, err
}

// State implements store.Revocations.
func (db *DB) State(ctx context.Context, cursor []byte, limit int) (part []store.Revocation, next []byte, err error) {
	err = db.read(ctx, func(t *txn) error {
		c := t.Bucket(revoked).Cursor()
		key, value := c.Seek(cursor)
		if cursor != nil && bytes.Equal(key, cursor) {
			key, value = c.Next()
		}
		for ; key != nil; key, value = c.Next() {
			if len(part) == limit {
				return nil
			}
			r, err := decodeRevocation(value)
			if err != nil {
				return err
			}
			part, next = append(part, r), append([]byte(nil), key...)
		}
		next = nil
		return nil
	})
	return part, next, err
}

// Changed implements store.Revocations.
func (db *DB) Changed() <-chan struct{} {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.changed
}

// wake tells the log's readers that it grew.
func (db *DB) wake() {
	db.mu.Lock()
	defer db.mu.Unlock()
	close(db.changed)
	db.changed = make(chan struct{})
}

func sequenceKey(sequence uint64) []byte { return binary.BigEndian.AppendUint64(nil, sequence) }

func stateKey(kind store.Kind, id string) []byte { return append([]byte{byte(kind)}, id...) }

// A revocation is kept as sequence, not before, expires at (Unix seconds),
// kind, id.
const revocationHead = 8 + 8 + 8 + 1

func encodeRevocation(r store.Revocation) []byte {
	value := make([]byte, 0, revocationHead+len(r.ID))
	value = binary.BigEndian.AppendUint64(value, r.Sequence)
	value = binary.BigEndian.AppendUint64(value, uint64(r.NotBefore))
	value = binary.BigEndian.AppendUint64(value, uint64(ceilSecond(r.ExpiresAt)))
	return append(append(value, byte(r.Kind)), r.ID...)
}

func decodeRevocation(value []byte) (store.Revocation, error) {
	if len(value) <= revocationHead {
		return store.Revocation{}, fmt.Errorf("decoding a revocation: it has %d bytes", len(value))
	}
	return store.Revocation{
		Sequence:  binary.BigEndian.Uint64(value),
		NotBefore: int64(binary.BigEndian.Uint64(value[8:])),
		ExpiresAt: time.Unix(int64(binary.BigEndian.Uint64(value[16:])), 0).UTC(),
		Kind:      store.Kind(value[24]),
		ID:        string(value[revocationHead:]),
	}, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
