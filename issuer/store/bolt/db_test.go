package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

func openAt(t *testing.T, path string, o Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "issuer.db")
	openAt(t, path, Options{}).Close()
	check := func(when string) {
		t.Helper()
		for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s has mode %v, want %o (%v)", when, p, info.Mode(), want, err)
			}
		}
	}
	check("new")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	openAt(t, path, Options{})
	check("opened again after it was made readable")
}

func TestSecondOpenIsRefusedSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	db := openAt(t, path, Options{})
	began := time.Now()
	_, err := Open(path, Options{})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second opening: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it was refused after %s", took)
	}
	db.Close()
	openAt(t, path, Options{})
}

func TestForeignFilesAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		make func(tx *bbolt.Tx) error
		want string
		is   error
	}{
		"newer schema": {func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucket(meta)
			return errors.Join(err, bucket.Put(schemaKey, binary.BigEndian.AppendUint64(nil, uint64(len(migrations)+1))))
		}, "upgrade gatehouse", store.ErrNewerSchema},
		"damaged schema": {func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket(meta)
			return err
		}, "restore a backup", nil},
		"another program's": {func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return err
		}, "another program", nil},
	} {
		path := filepath.Join(t.TempDir(), "issuer.db")
		file, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(file.Update(row.make), file.Close()); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		_, err = Open(path, Options{})
		if err == nil || !strings.Contains(err.Error(), row.want) || (row.is != nil && !errors.Is(err, row.is)) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s: the refused file was changed", name)
		}
	}
}

// A migration that fails half way leaves the file as it was.
func TestMigrationIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	openAt(t, path, Options{}).Close()
	present := migrations
	defer func() { migrations = present }()
	migrations = append(slices.Clone(present), func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(clients), errors.New("power cut"))
	})
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("migrating from schema %d", len(present))) {
		t.Errorf("a failing migration: %v", err)
	}
	migrations = present
	db := openAt(t, path, Options{})
	if _, err := db.ListClients(t.Context(), "", 10); err != nil {
		t.Error(err)
	}
	db.Close()
	migrations = append(slices.Clone(present), func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("later"))
		return err
	})
	openAt(t, path, Options{}).Close()
	migrations = present
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrNewerSchema) {
		t.Errorf("the migrated file in the hands of the older program: %v", err)
	}
}

func TestBackupHoldsEverythingAndRestoreHasANewEpoch(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, filepath.Join(dir, "issuer.db"), Options{})
	if err := db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public}); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if err := db.Backup(t.Context(), &copied); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "restored.db")
	if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	restored := openAt(t, path, Options{NewEpoch: true})
	if _, err := restored.Client(t.Context(), "app"); err != nil {
		t.Error(err)
	}
	if restored.Epoch() == db.Epoch() || restored.Epoch() == "" {
		t.Errorf("the restored epoch is %q, the original %q", restored.Epoch(), db.Epoch())
	}
	restored.Close()
	if again := openAt(t, path, Options{}); again.Epoch() != restored.Epoch() {
		t.Error("the new epoch was not kept")
	}
}

// An operation that fails or panics takes nobody else's with it, and leaves no
// trace of its own.
func TestGroupsIsolateFailures(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{})
	failure := errors.New("disk on fire")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			key := []byte{byte(i)}
			defer func() {
				if cause := recover(); (cause != nil) != (i%3 == 2) {
					t.Errorf("operation %d: panic %v", i, cause)
				}
			}()
			err := db.write(t.Context(), func(tx *txn) error {
				if err := tx.put(clients, key, []byte("{}")); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return failure
				case 2:
					panic("bug")
				}
				return nil
			})
			if want := i%3 == 1; errors.Is(err, failure) != want {
				t.Errorf("operation %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if err := db.read(t.Context(), func(tx *txn) error {
		for i := range 60 {
			if there := tx.has(clients, []byte{byte(i)}); there != (i%3 == 0) {
				t.Errorf("the row of operation %d: %v", i, there)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Bogus codes and tokens, which anybody can send, cost no write.
func TestRefusalsCostNoTransaction(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{})
	id := func() (n int) {
		if err := db.read(t.Context(), func(tx *txn) error { n = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := id()
	for range 10 {
		if _, err := db.RedeemCode(t.Context(), store.Redemption{
			Code: store.HashOf("x"), GrantID: "g", Decide: func(store.Code) (store.Terms, error) { return store.Terms{}, nil },
		}); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := db.RotateRefresh(t.Context(), store.Rotation{Token: store.HashOf("x"), Successor: store.HashOf("y")}); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if after := id(); after != before {
		t.Errorf("%d transactions were committed", after-before)
	}
}

func TestClosedDatabaseRefuses(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "issuer.db"), Options{})
	db.Close()
	if err := db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public}); err == nil {
		t.Error("a write after Close")
	}
	if _, err := db.Client(t.Context(), "app"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a read after Close: %v", err)
	}
}
