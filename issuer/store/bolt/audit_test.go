package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Whoever changes the file behind the program's back is found out, whatever
// they change.
func TestTamperingShows(t *testing.T) {
	key := sequenceKey(3)
	forge := func(tx *bbolt.Tx, change func(value []byte) []byte) error {
		bucket := tx.Bucket(auditLog)
		return bucket.Put(key, change(bytes.Clone(bucket.Get(key))))
	}
	for name, row := range map[string]struct {
		change func(*bbolt.Tx) error
		says   string
	}{
		"text": {func(tx *bbolt.Tx) error {
			return forge(tx, func(v []byte) []byte { return bytes.Replace(v, []byte("failure"), []byte("success"), 1) })
		}, "record 3"},
		"time": {func(tx *bbolt.Tx) error {
			return forge(tx, func(v []byte) []byte { v[len(store.Hash{})+7]++; return v })
		}, "record 3"},
		"seal":    {func(tx *bbolt.Tx) error { return forge(tx, func(v []byte) []byte { v[0]++; return v }) }, "record 3"},
		"cut":     {func(tx *bbolt.Tx) error { return forge(tx, func(v []byte) []byte { return v[:9] }) }, "too short"},
		"removed": {func(tx *bbolt.Tx) error { return tx.Bucket(auditLog).Delete(key) }, "record 3 is missing"},
		"the end removed": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.Bucket(auditLog).Delete(sequenceKey(4)), tx.Bucket(auditLog).Delete(sequenceKey(5)))
		}, "the last that is there is 3"},
		"the end removed, and the count": {func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(auditLog)
			return errors.Join(bucket.Delete(sequenceKey(5)), bucket.SetSequence(4))
		}, "record 4 is not the last"},
		"all removed, and the count": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.DeleteBucket(auditLog), addBuckets(tx, [][]byte{auditLog}))
		}, "record 0 is not the last"},
		"all traces removed": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.DeleteBucket(auditLog), addBuckets(tx, [][]byte{auditLog}), tx.Bucket(meta).Delete(endKey))
		}, "record 0 is not the last"},
		"the beginning removed, as if it had been swept": {func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(auditLog)
			seal := bytes.Clone(bucket.Get(sequenceKey(2))[:len(store.Hash{})])
			return errors.Join(bucket.Delete(sequenceKey(1)), bucket.Delete(sequenceKey(2)), tx.Bucket(meta).Put(anchorKey, append(sequenceKey(2), seal...)))
		}, "the mark of what was swept"},
		"the same, marked without the key": {func(tx *bbolt.Tx) error {
			bucket, without := tx.Bucket(auditLog), &txn{Tx: tx}
			last, _ := headOf(sequenceKey(2), bucket.Get(sequenceKey(2)))
			return errors.Join(bucket.Delete(sequenceKey(1)), bucket.Delete(sequenceKey(2)), tx.Bucket(meta).Put(anchorKey, without.marked(markSwept, last)))
		}, "the mark of what was swept"},
		"the beginning removed": {func(tx *bbolt.Tx) error { return tx.Bucket(auditLog).Delete(sequenceKey(1)) }, "record 1 is missing"},
		"sealed without the key": {func(tx *bbolt.Tx) error {
			without := &txn{Tx: tx}
			value := tx.Bucket(auditLog).Get(sequenceKey(4))
			last, _ := headOf(sequenceKey(4), value)
			body := tx.Bucket(auditLog).Get(sequenceKey(5))[len(last.Seal):]
			seal := without.seal(last.Seal, 5, body)
			return tx.Bucket(auditLog).Put(sequenceKey(5), append(seal[:], body...))
		}, "record 5"},
	} {
		db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{AuditKey: []byte("the key of the audit log")})
		for i := range 5 {
			if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login", Result: store.Failure, Detail: fmt.Sprint(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); err != nil {
			t.Fatal(err)
		}
		if err := db.bolt.Update(row.change); err != nil {
			t.Fatal(err)
		}
		_, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100)
		if !errors.Is(err, store.ErrTampered) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", name, err, row.says)
		}
		// What is recorded later does not cover it up.
		if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}, {Name: "login"}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); !errors.Is(err, store.ErrTampered) {
			t.Errorf("%s, then more records: %v", name, err)
		}
	}
}

// What was cut off in front is not covered up by the next sweep.
func TestSweepsDoNotCoverUp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{AuditKey: []byte("key"), Now: func() time.Time { return now }, AuditRetention: time.Hour})
	verify := func() error { return second(db.VerifyEvents(t.Context(), store.EventHead{}, 100)) }
	record := func() {
		for range 5 {
			if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep := func() {
		now = now.Add(2 * time.Hour)
		record()
		if _, _, err := db.Sweep(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
	}
	record()
	sweep()
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	if err := db.bolt.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(auditLog)
		seal := bytes.Clone(bucket.Get(sequenceKey(7))[:len(store.Hash{})])
		return errors.Join(bucket.Delete(sequenceKey(6)), bucket.Delete(sequenceKey(7)), tx.Bucket(meta).Put(anchorKey, append(sequenceKey(7), seal...)))
	}); err != nil {
		t.Fatal(err)
	}
	sweep()
	if err := verify(); !errors.Is(err, store.ErrTampered) {
		t.Errorf("after the next sweep: %v", err)
	}
}

func second[T, U any](_ T, _ U, err error) error { return err }

// A query looks at so many records only, and goes on where it stopped.
func TestQueriesAreBounded(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{})
	events := make([]store.Event, maxScan+1)
	for i := range events {
		events[i].Name = "login"
	}
	events[maxScan].Name = "needle"
	if err := db.RecordEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	q := store.EventQuery{Name: "needle", Limit: 10}
	found, next, more, err := db.Events(t.Context(), q)
	if err != nil || len(found) != 0 || next != maxScan || !more {
		t.Fatalf("the first part: %v, next %d, more %v, %v", found, next, more, err)
	}
	q.After = next
	if found, next, more, err = db.Events(t.Context(), q); err != nil || len(found) != 1 || next != maxScan+1 || more {
		t.Errorf("the second part: %v, next %d, more %v, %v", found, next, more, err)
	}
}
