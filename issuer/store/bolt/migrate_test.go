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

// A database of the first schema is brought up to date with all that is in it:
// what was there works, and what came since is filled in from it.
func TestFirstSchemaIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.db")
	file, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(tx *bbolt.Tx, bucket, key []byte, row any) error {
		value, err := json.Marshal(row)
		return errors.Join(err, tx.Bucket(bucket).Put(key, value))
	}
	session := store.Session{ID: "ses_1", Cookie: store.HashOf("c"), UserID: "usr_1", IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := errors.Join(file.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			createV1(tx),
			tx.Bucket(meta).Put(schemaKey, []byte{0, 0, 0, 0, 0, 0, 0, 1}),
			put(tx, clients, []byte("app"), map[string]any{"ID": "app", "Type": 1, "Scopes": []string{"a"}}),
			put(tx, users, []byte("usr_1"), map[string]any{"ID": "usr_1", "Login": "ada", "Roles": []string{"reader"}, "Password": "$p"}),
			tx.Bucket(logins).Put([]byte("ada"), []byte("usr_1")),
			put(tx, sessions, []byte("ses_1"), session),
			tx.Bucket(cookies).Put(session.Cookie[:], []byte("ses_1")),
		)
	}), file.Close()); err != nil {
		t.Fatal(err)
	}
	db := openAt(t, path, Options{})
	if _, err := db.DueLogouts(t.Context(), 1); err != nil || db.Epoch() == "" {
		t.Errorf("what schema 2 brought: %v; epoch %q", err, db.Epoch())
	}
	if c, err := db.Client(t.Context(), "app"); err != nil || c.Type != store.Confidential || c.Disabled || c.Registration != nil {
		t.Errorf("the client is %+v, %v", c, err)
	}
	if u, err := db.UserByLogin(t.Context(), "ada"); err != nil || len(u.AllRoles) != 1 || u.Disabled {
		t.Errorf("the user is %+v, %v", u, err)
	}
	if live, err := db.ListSessions(t.Context(), "usr_1", "", 10); err != nil || len(live) != 1 || live[0].ID != "ses_1" {
		t.Errorf("the sessions are %v, %v", live, err)
	}
	if err := db.CreateGroup(t.Context(), store.Group{ID: "grp_1", Name: "staff"}); err != nil {
		t.Error(err)
	}
	if head, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 10); err != nil || head.Sequence != 1 {
		t.Errorf("the audit log: %v, %v", head, err)
	}
}

// A log from before its ends were marked is taken over as it is.
func TestEndsOfAnOlderAuditLogAreMarked(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "issuer.db"), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	options := Options{AuditKey: []byte("key"), AuditRetention: time.Hour, Now: func() time.Time { return now }}
	db := openAt(t, path, options)
	for range 3 {
		if err := db.RecordEvents(t.Context(), []store.Event{{Name: "login"}}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(50 * time.Minute)
	}
	if _, _, err := db.Sweep(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.bolt.Update(func(tx *bbolt.Tx) error {
		place := bytes.Clone(tx.Bucket(meta).Get(anchorKey)[:8+len(store.Hash{})])
		return errors.Join(
			tx.Bucket(meta).Put(schemaKey, []byte{0, 0, 0, 0, 0, 0, 0, sealedEnds - 1}),
			tx.Bucket(meta).Put(anchorKey, place), tx.Bucket(meta).Delete(endKey),
		)
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(path, Options{AuditKey: []byte("another")}); err == nil {
		db.Close()
		t.Error("it was taken over under another key")
	}
	db = openAt(t, path, options)
	if head, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 10); err != nil || head.Sequence != 3 {
		t.Errorf("%v, %v", head, err)
	}
	if err := db.bolt.Update(func(tx *bbolt.Tx) error { return tx.Bucket(meta).Delete(endKey) }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.VerifyEvents(t.Context(), store.EventHead{}, 10); !errors.Is(err, store.ErrTampered) {
		t.Errorf("without a mark: %v", err)
	}
}
