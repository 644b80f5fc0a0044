package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// backupOf writes a backup of an open database into a file.
func backupOf(t *testing.T, db *DB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Backup(t.Context(), file), file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// After a restore nothing that was issued before is good: not what the backup
// knows, nor what came after it.
func TestRestoreEndsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	db := openAt(t, path, Options{})
	if err := errors.Join(
		db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public}),
		db.CreateUser(t.Context(), store.User{ID: "usr_1", Login: "alice"}),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := db.UpdateKeys(t.Context(), func([]store.Key) (store.KeyChange, error) {
		return store.KeyChange{Put: []store.Key{{ID: "k1", State: store.KeyActive, Sealed: []byte("s")}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	code, refresh := store.HashOf("code"), store.NewToken(store.RefreshPrefix)
	if _, err := db.CreateCode(t.Context(), store.Code{Hash: code, ClientID: "app", UserID: "usr_1", ExpiresAt: later}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RedeemCode(t.Context(), store.Redemption{Code: code, ClientID: "app", GrantID: "g", Decide: func(store.Code) (store.Terms, error) {
		return store.Terms{ExpiresAt: later, Refresh: store.HashOf(refresh)}, nil
	}}); err != nil {
		t.Fatal(err)
	}
	backup := backupOf(t, db)
	if err := db.CreateUser(t.Context(), store.User{ID: "usr_2", Login: "late"}); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), backup, path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("over a database in use: %v", err)
	}
	epoch := db.Epoch()
	db.Close()
	written, err := recordsOf(path)
	if err != nil || written == 0 {
		t.Fatalf("%d records, %v", written, err)
	}
	if err := Restore(store.WithOrigin(t.Context(), store.Origin{Actor: "uid 7"}), backup, path, Options{}); err != nil {
		t.Fatal(err)
	}
	restored := openAt(t, path, Options{})
	if restored.Epoch() == epoch {
		t.Error("the epoch is the old one")
	}
	if _, err := restored.UserByLogin(t.Context(), "late"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("whoever came after the backup: %v", err)
	}
	next := store.Successor([]byte("key"), refresh)
	if _, err := restored.RotateRefresh(t.Context(), store.Rotation{Token: store.HashOf(refresh), Successor: store.HashOf(next), ClientID: "app"}); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("a refresh token from before: %v", err)
	}
	for name, refs := range map[string]store.TokenRefs{
		"of a known key":    {ID: "j", KeyID: "k1", UserID: "usr_2", ClientID: "x", IssuedAt: time.Now()},
		"sealed key erased": {ID: "j", KeyID: "k1", IssuedAt: time.Now().Add(time.Hour)},
	} {
		if alive, err := restored.Alive(t.Context(), refs); err != nil || alive {
			t.Errorf("%s: alive %v, %v", name, alive, err)
		}
	}
	keys, err := restored.ListKeys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].State != store.KeyPurged || keys[0].Sealed != nil {
		t.Errorf("the keys are %+v, %v", keys, err)
	}
	found, _, _, err := restored.Events(t.Context(), store.EventQuery{Name: store.EventRestore, Limit: 2})
	if err != nil || len(found) != 1 || found[0].Actor != "uid 7" || !strings.HasSuffix(found[0].Detail, fmt.Sprint(" ", written)) {
		t.Errorf("the restore is entered as %+v, %v", found, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if err := Check(path + ".replaced"); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	// A second restore would drop the one copy of what was there at first.
	restored.Close()
	if err := Restore(t.Context(), backup, path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over what an earlier one replaced: %v", err)
	}
}

// A restore that was killed between giving the present database its second name
// and taking its first goes on where it stopped.
func TestRestoreGoesOnAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	db := openAt(t, path, Options{})
	backup := backupOf(t, db)
	if err := errors.Join(db.CreateUser(t.Context(), store.User{ID: "usr_1", Login: "late"}), db.Close(), keepReplaced(path, path+".replaced")); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), backup, path, Options{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{path: store.ErrNotFound, path + ".replaced": nil} {
		if _, err := openAt(t, name, Options{}).UserByLogin(t.Context(), "late"); !errors.Is(err, want) {
			t.Errorf("who came after the backup, in %s: %v", filepath.Base(name), err)
		}
	}
	if err := Restore(t.Context(), backup, path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("once it was done: %v", err)
	}
}

func TestCompactShrinksAndKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	db := openAt(t, path, Options{})
	fill := func(each func(bucket *bbolt.Bucket, key []byte) error) {
		t.Helper()
		if err := db.bolt.Update(func(tx *bbolt.Tx) error {
			for i := range 2000 {
				if err := each(tx.Bucket(meta), fmt.Append(nil, "filler", i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	fill(func(bucket *bbolt.Bucket, key []byte) error { return bucket.Put(key, make([]byte, 500)) })
	fill(func(bucket *bbolt.Bucket, key []byte) error { return bucket.Delete(key) })
	if err := db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public}); err != nil {
		t.Fatal(err)
	}
	epoch, last := db.Epoch(), uint64(1)
	if _, _, err := Compact(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a database in use: %v", err)
	}
	db.Close()
	before, after, err := Compact(path)
	if err != nil || after >= before {
		t.Fatalf("from %d to %d bytes: %v", before, after, err)
	}
	if err := Check(path); err != nil {
		t.Error(err)
	}
	db = openAt(t, path, Options{})
	if _, err := db.Client(t.Context(), "app"); err != nil || db.Epoch() != epoch {
		t.Errorf("afterwards: %v, epoch %q", err, db.Epoch())
	}
	// Sequences live beside the rows: they must come along.
	if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}}); err != nil {
		t.Error(err)
	}
	if head, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 10); err != nil || head.Sequence != last+1 {
		t.Errorf("the audit log: %v, %v", head, err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "issuer.db")
	if err := Check(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	db := openAt(t, path, Options{})
	if err := Check(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	db.Close()
	if err := Check(path); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil {
		t.Error("a text file passes")
	}
}
