package login

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// hashes counts what is verified, and takes every password for right.
type hashes struct{ seen []string }

func (h *hashes) Verify(_ context.Context, hash, _ string) (bool, error) {
	h.seen = append(h.seen, hash)
	return true, nil
}

func (h *hashes) Upgrade(context.Context, string, string) (string, error) { return "", nil }

// Every attempt costs one verification, whether the account exists or not, so
// that time does not tell; and an account that does not exist is never proved.
func TestEveryAttemptIsHashed(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "issuer.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.CreateUser(t.Context(), store.User{ID: "usr_1", Login: "alice", Password: "hash"}); err != nil {
		t.Fatal(err)
	}
	verified := &hashes{}
	var attempts []Attempt
	p, err := New(Config{Origin: "https://issuer.example", SessionLifetime: time.Hour, Key: make([]byte, 32)}, Deps{
		People: db, Passwords: verified, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Attempted: func(_ context.Context, a Attempt) { attempts = append(attempts, a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range []struct {
		typed, hash string
		proved      bool
	}{{"alice", "hash", true}, {"ALICE", "hash", true}, {"nobody", "", false}, {"not a login", "", false}, {"", "", false}} {
		user, wait, err := p.prove(t.Context(), row.typed, "password", "203.0.113.1")
		if err != nil || wait > 0 {
			t.Fatal(wait, err)
		}
		if (user != nil) != row.proved || len(verified.seen) != i+1 || verified.seen[i] != row.hash {
			t.Errorf("%q: proved %v, verified %q", row.typed, user, verified.seen)
		}
		if success := attempts[i].Result == "success"; success != row.proved {
			t.Errorf("%q: recorded as %+v", row.typed, attempts[i])
		}
	}
}
