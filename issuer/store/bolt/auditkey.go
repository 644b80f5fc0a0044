package bolt

import (
	"crypto/hmac"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// goesWithKey wants the audit log to go on under the key that it was sealed
// with, or what follows could not be verified. The last seal and each mark tell
// by themselves: a log that was tampered with opens under its own key, for
// VerifyEvents to tell.
func (t *txn) goesWithKey() error {
	if t.lastSealHolds() || t.isOurs(endKey, markEnd) || t.isOurs(anchorKey, markSwept) {
		return nil
	}
	if last, _ := t.Bucket(auditLog).Cursor().Last(); last == nil && t.Bucket(meta).Get(endKey) == nil {
		return nil // nothing is sealed yet
	}
	return fmt.Errorf("opening the audit log: %w", store.ErrOtherKEK)
}

// lastSealHolds tells whether the last record is there and sealed with the key.
func (t *txn) lastSealHolds() bool {
	key, value := t.Bucket(auditLog).Cursor().Last()
	last, err := headOf(key, value)
	if err != nil {
		return false
	}
	before, err := t.anchor()
	if before.Sequence+1 < last.Sequence {
		previous := sequenceKey(last.Sequence - 1)
		before, err = headOf(previous, t.Bucket(auditLog).Get(previous))
	}
	if err != nil {
		return false
	}
	want := t.seal(before.Seal, last.Sequence, value[len(last.Seal):])
	return hmac.Equal(want[:], last.Seal[:])
}

// isOurs tells whether a mark was made with the key, wherever in the log.
func (t *txn) isOurs(key []byte, kind string) bool {
	value := t.Bucket(meta).Get(key)
	if len(value) < 8 {
		return false
	}
	place, err := headOf(value[:8], value[8:])
	return err == nil && t.isMarked(key, kind, place)
}
