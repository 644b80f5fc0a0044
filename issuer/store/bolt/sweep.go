package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// What an entry of the expiry index names. The numbers are in the file: they
// never change.
const (
	expireSession byte = iota + 1
	expireCode
	expireGrant
	expireRefresh
	expireRevoked
	expireUsed
	expirePushed
	expireRegistration
	expireDevice
)

// ceilSecond is the first whole second at which a moment has passed.
func ceilSecond(at time.Time) int64 {
	if at.Nanosecond() > 0 {
		return at.Unix() + 1
	}
	return at.Unix()
}

// expiryKey is time‖kind‖key; times before 1970 count as 1970.
func expiryKey(at time.Time, kind byte, key []byte) []byte {
	index := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(key)), uint64(max(0, ceilSecond(at))))
	return append(append(index, kind), key...)
}

// expire enters a record into the expiry index.
func (t *txn) expire(at time.Time, kind byte, key []byte) error {
	return t.put(expiry, expiryKey(at, kind, key), nil)
}

// unexpire takes a record out of it, before its time changes.
func (t *txn) unexpire(at time.Time, kind byte, key []byte) error {
	return t.delete(expiry, expiryKey(at, kind, key))
}

// Sweep implements store.Store.
func (db *DB) Sweep(ctx context.Context, limit int) (removed int, more bool, err error) {
	if limit < 1 {
		return 0, false, fmt.Errorf("sweeping: a step removes at least 1 record, not %d", limit)
	}
	err = db.write(ctx, func(t *txn) (err error) {
		if removed, err = t.sweepExpired(limit); err != nil {
			return err
		}
		trimmed, err := t.trimLog(limit - removed)
		removed += trimmed
		if err != nil {
			return err
		}
		trimmed, err = t.trimAudit(limit - removed)
		removed += trimmed
		more = removed == limit
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("sweeping expired records: %w", err)
	}
	return removed, more, nil
}

// sweepExpired removes at most limit of the records whose time has come. Keys
// are collected first: a bbolt cursor is lost when its bucket changes.
func (t *txn) sweepExpired(limit int) (removed int, err error) {
	end := uint64(max(0, t.now.Unix()))
	var due [][]byte
	cursor := t.Bucket(expiry).Cursor()
	for key, _ := cursor.First(); key != nil && len(due) < limit && binary.BigEndian.Uint64(key) <= end; key, _ = cursor.Next() {
		due = append(due, append([]byte(nil), key...))
	}
	for _, key := range due {
		if err := errors.Join(t.drop(key[8], key[9:]), t.delete(expiry, key)); err != nil {
			return 0, err
		}
	}
	return len(due), nil
}

func (t *txn) drop(kind byte, key []byte) error {
	switch kind {
	case expireSession:
		return t.dropSession(key)
	case expireCode:
		return t.delete(codes, key)
	case expireGrant:
		return t.dropGrant(key)
	case expireRefresh:
		return t.delete(refreshTokens, key)
	case expireRevoked:
		return t.delete(revoked, key)
	case expireDevice:
		return t.dropDevice(key)
	case expireUsed:
		return t.delete(usedOnce, key)
	case expirePushed:
		return t.delete(pushedRequests, key)
	case expireRegistration:
		return t.dropRegistrationToken(key)
	default:
		return fmt.Errorf("the expiry index names a record of unknown kind %d", kind)
	}
}

// trimLog forgets at most limit of the log's oldest entries, once they are too
// old to be resumed from; what is in force is kept beside the log.
func (t *txn) trimLog(limit int) (removed int, err error) {
	oldest := uint64(max(0, t.now.Add(-t.retention).Unix()))
	var due [][]byte
	cursor := t.Bucket(revocationLog).Cursor()
	for key, value := cursor.First(); key != nil && len(due) < limit && binary.BigEndian.Uint64(value) < oldest; key, value = cursor.Next() {
		due = append(due, append([]byte(nil), key...))
	}
	for _, key := range due {
		if err := t.delete(revocationLog, key); err != nil {
			return 0, err
		}
	}
	return len(due), nil
}
