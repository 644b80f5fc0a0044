package bolt

import (
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/storetest"
)

func TestConformance(t *testing.T) {
	open := func(t *testing.T, path string, now func() time.Time) store.Store {
		t.Helper()
		db, err := Open(path, Options{Now: now, Retention: storetest.Retention})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
	storetest.Run(t, storetest.Backend{
		Open: func(t *testing.T, now func() time.Time) store.Store {
			return open(t, filepath.Join(t.TempDir(), "issuer.db"), now)
		},
		Reopen: func(t *testing.T, s store.Store, now func() time.Time) store.Store {
			path := s.(*DB).bolt.Path()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, path, now)
		},
	})
}
