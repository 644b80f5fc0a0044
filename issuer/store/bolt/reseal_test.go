package bolt

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// sealedUnder are the options of a database under a toy key-encryption key: what
// it seals begins with its name.
func sealedUnder(kek string) Options {
	return Options{AuditKey: []byte("audit " + kek), OpenAuditKey: func(sealed []byte) ([]byte, error) {
		if key, ok := bytes.CutPrefix(sealed, []byte(kek+":")); ok {
			return key, nil
		}
		return nil, errors.New("another key-encryption key")
	}}
}

func resealing(from, to string) store.Resealing {
	return store.Resealing{
		Key: func(k store.Key) ([]byte, error) {
			private, ok := bytes.CutPrefix(k.Sealed, []byte(from+":"))
			if !ok {
				return nil, errors.New("another key-encryption key")
			}
			return append([]byte(to+":"), private...), nil
		},
		AuditKey: []byte("audit " + to),
		Keep:     func(key []byte) []byte { return append([]byte(to+":"), key...) },
	}
}

// resealed is a database that came from key a over b to c, with records of each
// time.
func resealed(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "issuer.db")
	db := openAt(t, path, sealedUnder("a"))
	if _, err := db.UpdateKeys(t.Context(), func([]store.Key) (store.KeyChange, error) {
		return store.KeyChange{Put: []store.Key{{ID: "k1", State: store.KeyActive, Sealed: []byte("a:private")}, {ID: "k2", State: store.KeyPurged}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	record := func(kek string) {
		t.Helper()
		db := openAt(t, path, sealedUnder(kek))
		if err := errors.Join(db.RecordEvents(t.Context(), []store.Event{{Name: "login", Detail: kek}, {Name: "login", Detail: kek}}), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	record("a")
	for _, step := range [][2]string{{"a", "b"}, {"b", "c"}} {
		if err := Reseal(store.WithOrigin(t.Context(), store.Origin{Actor: "uid 7"}), path, sealedUnder(step[0]), resealing(step[0], step[1])); err != nil {
			t.Fatal(err)
		}
		record(step[1])
	}
	return path
}

func TestResealCarriesKeysAndTheAuditLogOver(t *testing.T) {
	path := resealed(t)
	for _, earlier := range []string{"a", "b"} {
		if db, err := Open(path, sealedUnder(earlier)); err == nil {
			db.Close()
			t.Errorf("it opens with the key %s", earlier)
		}
	}
	db := openAt(t, path, sealedUnder("c"))
	keys, err := db.ListKeys(t.Context())
	if err != nil || len(keys) != 2 || string(keys[0].Sealed) != "c:private" || keys[1].Sealed != nil {
		t.Errorf("the keys are %+v, %v", keys, err)
	}
	head, more, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100)
	if err != nil || more || head.Sequence != 10 {
		t.Errorf("the audit log: up to %d, %v", head.Sequence, err)
	}
	entered, _, _, err := db.Events(t.Context(), store.EventQuery{Name: store.EventKeyReseal, Limit: 9})
	if err != nil || len(entered) != 2 || entered[0].Actor != "uid 7" || entered[0].Detail == "" {
		t.Errorf("it is entered as %+v, %v", entered, err)
	}
}

// What was swept stays swept under the next key, and what was cut off in front
// shows under it.
func TestResealKeepsTheMarkOfWhatWasSwept(t *testing.T) {
	for _, cut := range []bool{false, true} {
		path := resealed(t)
		later := func(kek string) Options {
			o := sealedUnder(kek)
			o.Now = func() time.Time { return time.Now().Add(DefaultAuditRetention + time.Hour) }
			return o
		}
		db := openAt(t, path, later("c"))
		if err := errors.Join(db.RecordEvents(t.Context(), []store.Event{{Name: "login"}, {Name: "login"}}), db.write(t.Context(), func(t *txn) error {
			_, err := t.trimAudit(6) // all of a, and one of b
			return err
		})); err != nil {
			t.Fatal(err)
		}
		if cut {
			if err := db.bolt.Update(func(tx *bbolt.Tx) error {
				mark := bytes.Clone(tx.Bucket(meta).Get(anchorKey))
				mark[len(mark)-1] ^= 1
				return tx.Bucket(meta).Put(anchorKey, mark)
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(db.Close(), Reseal(t.Context(), path, later("c"), resealing("c", "d"))); err != nil {
			t.Fatal(err)
		}
		db = openAt(t, path, later("d"))
		if len(db.eras) != 2 {
			t.Errorf("%d earlier keys are kept, want those of b and c", len(db.eras))
		}
		if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); errors.Is(err, store.ErrTampered) != cut || err != nil && !cut {
			t.Errorf("cut off in front: %v; found: %v", cut, err)
		}
	}
}

// What goes wrong on the way changes nothing.
func TestResealIsAllOrNothing(t *testing.T) {
	path := resealed(t)
	if err := Reseal(t.Context(), path, sealedUnder("c"), resealing("b", "d")); err == nil {
		t.Fatal("keys that do not open were resealed")
	}
	db := openAt(t, path, sealedUnder("c"))
	if head, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); err != nil || head.Sequence != 10 {
		t.Errorf("the audit log: up to %d, %v", head.Sequence, err)
	}
}

// Whoever still has an earlier key cannot change what was sealed with it: the
// first record under the next one covers the last seal.
func TestEarlierKeysForgeNothing(t *testing.T) {
	path := resealed(t)
	db := openAt(t, path, sealedUnder("c"))
	if err := db.bolt.Update(func(tx *bbolt.Tx) error {
		forger := &txn{Tx: tx, auditKey: []byte("audit a")}
		bucket, before := tx.Bucket(auditLog), store.EventHead{}
		for sequence := uint64(1); sequence <= 4; sequence++ { // all that a sealed
			body := bytes.Clone(bucket.Get(sequenceKey(sequence)))[len(before.Seal):]
			if sequence == 3 {
				text, err := json.Marshal(store.Event{Sequence: 3, Name: "nothing"})
				if err != nil {
					return err
				}
				body = append(body[:8], text...)
			}
			before.Seal = forger.seal(before.Seal, sequence, body)
			if err := bucket.Put(sequenceKey(sequence), append(before.Seal[:], body...)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	head, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100)
	if !errors.Is(err, store.ErrTampered) || head.Sequence != 4 {
		t.Errorf("found up to %d: %v", head.Sequence, err)
	}
}

// Nor by saying that it sealed all that came later, too.
func TestEarlierKeysCannotBeStretched(t *testing.T) {
	path := resealed(t)
	db := openAt(t, path, sealedUnder("c"))
	last := must(db.VerifyEvents(t.Context(), store.EventHead{}, 100))
	if err := db.bolt.Update(func(tx *bbolt.Tx) error {
		forger := &txn{Tx: tx, auditKey: []byte("audit b")}
		bucket := tx.Bucket(auditLog)
		db.eras[len(db.eras)-1].Until = last.Sequence
		first := db.eras[0].Until
		before, err := headOf(sequenceKey(first), bucket.Get(sequenceKey(first)))
		if err != nil {
			return err
		}
		for sequence := first + 1; sequence <= last.Sequence; sequence++ {
			body := bytes.Clone(bucket.Get(sequenceKey(sequence)))[len(before.Seal):]
			before.Seal = forger.seal(before.Seal, sequence, bytes.Replace(body, []byte("login"), []byte("nothi"), 1))
			if err := bucket.Put(sequenceKey(sequence), append(before.Seal[:], bytes.Replace(body, []byte("login"), []byte("nothi"), 1)...)); err != nil {
				return err
			}
		}
		return putRow(forger, meta, erasKey, db.eras)
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); !errors.Is(err, store.ErrTampered) {
		t.Errorf("found %v", err)
	}
	if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); !errors.Is(err, store.ErrTampered) {
		t.Errorf("after one more record: %v", err)
	}
}

// A log whose end was cut off shows it after all that writes to it while no
// issuer runs, too.
func TestMaintenanceDoesNotCoverUp(t *testing.T) {
	for name, maintain := range map[string]func(path, backup string) error{
		"reseal":  func(path, _ string) error { return Reseal(t.Context(), path, sealedUnder("c"), resealing("c", "d")) },
		"restore": func(path, backup string) error { return Restore(t.Context(), backup, path, sealedUnder("c")) },
	} {
		path, kek := resealed(t), map[string]string{"reseal": "d", "restore": "c"}[name]
		db := openAt(t, path, sealedUnder("c"))
		if err := db.bolt.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(auditLog)
			last := bucket.Sequence()
			return errors.Join(bucket.Delete(sequenceKey(last)), bucket.SetSequence(last-1))
		}); err != nil {
			t.Fatal(err)
		}
		backup := backupOf(t, db)
		if err := errors.Join(db.Close(), maintain(path, backup)); err != nil {
			t.Fatal(err)
		}
		db = openAt(t, path, sealedUnder(kek))
		if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); !errors.Is(err, store.ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(head store.EventHead, _ bool, err error) store.EventHead {
	if err != nil {
		panic(err)
	}
	return head
}

// Another key is refused, be the log whole, empty, all swept, or tampered with at
// its end; the right one never is.
func TestOnlyTheKeyOfTheAuditLogOpens(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	under := func(kek string) Options {
		o := sealedUnder(kek)
		o.Now = func() time.Time { return now }
		return o
	}
	for name, change := range map[string]func(*DB, *bbolt.Tx) error{
		"whole": func(*DB, *bbolt.Tx) error { return nil },
		"swept": func(db *DB, tx *bbolt.Tx) error {
			swept := db.txn(tx)
			swept.now = now.Add(DefaultAuditRetention + time.Hour)
			_, err := swept.trimAudit(100)
			return err
		},
		"its last record forged": func(_ *DB, tx *bbolt.Tx) error {
			value := bytes.Clone(tx.Bucket(auditLog).Get(sequenceKey(2)))
			value[0] ^= 1
			return tx.Bucket(auditLog).Put(sequenceKey(2), value)
		},
		"its mark removed": func(_ *DB, tx *bbolt.Tx) error { return tx.Bucket(meta).Delete(endKey) },
		"its mark cut":     func(_ *DB, tx *bbolt.Tx) error { return tx.Bucket(meta).Put(endKey, []byte{1}) },
	} {
		path := filepath.Join(t.TempDir(), "issuer.db")
		db := openAt(t, path, under("a"))
		if err := errors.Join(db.RecordEvents(t.Context(), []store.Event{{Name: "login"}, {Name: "login"}}),
			db.bolt.Update(func(tx *bbolt.Tx) error { return change(db, tx) }), db.Close()); err != nil {
			t.Fatal(err)
		}
		refused(t, name, path, under("b"))
		openAt(t, path, under("a"))
	}
	path := filepath.Join(t.TempDir(), "issuer.db")
	openAt(t, path, under("a")).Close()
	refused(t, "empty", path, under("b"))
	openAt(t, path, under("a"))
}

func refused(t *testing.T, name, path string, o Options) {
	t.Helper()
	db, err := Open(path, o)
	if err == nil {
		db.Close()
	}
	if !errors.Is(err, store.ErrOtherKEK) {
		t.Errorf("%s, another key: %v", name, err)
	}
}

// A backup goes on under the key that it was made with, and no other.
func TestRestoreNeedsTheBackupsKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "issuer.db")
	db := openAt(t, path, sealedUnder("a"))
	if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}, {Name: "login"}}); err != nil {
		t.Fatal(err)
	}
	backup := backupOf(t, db)
	db.Close()
	if err := Restore(t.Context(), backup, path, sealedUnder("b")); err == nil {
		t.Error("it was restored under another key")
	}
	if err := Restore(t.Context(), backup, path, sealedUnder("a")); err != nil {
		t.Error(err)
	}
	db = openAt(t, path, sealedUnder("a"))
	if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 100); err != nil {
		t.Error(err)
	}
}
