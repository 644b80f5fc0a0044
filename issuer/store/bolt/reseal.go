package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// erasKey is where the eras of the audit log are.
var erasKey = []byte("audit_eras")

// era is a part of the audit log that was sealed with an earlier key. What came
// after it is sealed with a later one and covers its last seal, so whoever still
// has the earlier key cannot change it unseen.
type era struct {
	// Until is its last record.
	Until uint64
	// Sealed is its key under the key-encryption key.
	Sealed []byte

	key []byte
}

// readEras are the eras so far, the oldest first.
func readEras(file *bbolt.DB, open func(sealed []byte) ([]byte, error)) (eras []era, err error) {
	return eras, file.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket(meta).Get(erasKey)
		if value == nil {
			return nil
		}
		if err := json.Unmarshal(value, &eras); err != nil {
			return fmt.Errorf("decoding the eras of the audit log: %w", err)
		}
		if open == nil {
			return errors.New("the audit log has keys that need the key-encryption key")
		}
		for i := range eras {
			if eras[i].key, err = open(eras[i].Sealed); err != nil {
				return err
			}
		}
		return nil
	})
}

// sealKey is the key that a record is sealed with.
func (t *txn) sealKey(sequence uint64) []byte {
	for _, e := range t.eras {
		if sequence <= e.Until {
			return e.key
		}
	}
	return t.auditKey
}

// Reseal brings a database under another key-encryption key in one transaction,
// while nobody has it open: it is all under the old one or all under the new.
func Reseal(ctx context.Context, path string, o Options, r store.Resealing) error {
	db, err := Open(path, o)
	if err != nil {
		return err
	}
	err = db.write(ctx, func(t *txn) error { return t.reseal(r) })
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("resealing: %w", err)
	}
	return nil
}

func (t *txn) reseal(r store.Resealing) error {
	all, err := t.keys()
	if err != nil {
		return err
	}
	resealed := 0
	for _, k := range all {
		if k.Sealed == nil {
			continue
		}
		if k.Sealed, err = r.Key(k); err != nil {
			return err
		}
		if err := putRow(t, signingKeys, []byte(k.ID), k); err != nil {
			return err
		}
		resealed++
	}
	if err := t.beginEra(r); err != nil {
		return err
	}
	return t.audit(store.Event{Name: store.EventKeyReseal, Detail: fmt.Sprintf("%d signing keys, and the audit log from here on", resealed)})
}

// beginEra seals records with another key from now on. Keys that no record is
// left of are forgotten. The marks of both ends come along where they hold; one
// that does not is left to VerifyEvents.
func (t *txn) beginEra(r store.Resealing) error {
	swept, err := t.anchor()
	if err != nil {
		return err
	}
	last, err := t.lastEvent()
	if err != nil {
		return err
	}
	var kept []era
	for _, e := range append(t.eras, era{Until: last.Sequence, key: t.auditKey}) {
		if e.Until > swept.Sequence {
			e.Sealed = r.Keep(e.key)
			kept = append(kept, e)
		}
	}
	sweptHolds, endHolds := swept.Sequence > 0 && t.isMarked(anchorKey, markSwept, swept), t.isMarked(endKey, markEnd, last)
	t.eras, t.auditKey = kept, r.AuditKey
	if sweptHolds {
		err = t.put(meta, anchorKey, t.marked(markSwept, swept))
	}
	if endHolds {
		err = errors.Join(err, t.put(meta, endKey, t.marked(markEnd, last)))
	}
	return errors.Join(err, putRow(t, meta, erasKey, kept))
}
