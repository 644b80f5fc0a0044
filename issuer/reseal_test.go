package issuer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

const resealVar = "GATEHOUSE_RESEAL_FOLDER"

// sealedIssuer is an issuer on the database of a folder, with one of its two
// key-encryption keys.
func sealedIssuer(t *testing.T, dir, kek string, algorithms ...string) (i *Issuer, key *keys.KEK) {
	t.Helper()
	path := filepath.Join(dir, kek)
	if _, err := keys.EnsureKEK(path); err != nil {
		t.Fatal(err)
	}
	key, err := keys.LoadKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{URL: "https://issuer.example", Database: conf.Path(filepath.Join(dir, "issuer.db")), KeyEncryptionKey: conf.Path(path)}
	config.Keys.Algorithms = algorithms
	config.SetDefaults(dir)
	if i, err = New(config, Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	return i, key
}

// opens tells whether the issuer opens, signs, and finds its audit log sound.
func (i *Issuer) opens(ctx context.Context) error {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	_, signing := s.keys.Sign(ctx, keys.ES256, "JWT", []byte("{}"))
	_, _, verifying := s.store.VerifyEvents(ctx, store.EventHead{}, 100_000)
	return errors.Join(signing, verifying, s.close())
}

// The issuer goes on under the new key with all it had, and not under the old
// one; done again, nothing happens.
func TestReseal(t *testing.T) {
	dir := t.TempDir()
	before, old := sealedIssuer(t, dir, "old.kek")
	after, next := sealedIssuer(t, dir, "new.kek")
	if err := before.Reseal(t.Context(), next); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a database: %v", err)
	}
	if err := before.opens(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := after.opens(t.Context()); !errors.Is(err, store.ErrOtherKEK) {
		t.Errorf("with another key: %v", err)
	}
	if err := before.Reseal(t.Context(), old); err == nil {
		t.Error("the same key took its own place")
	}
	for range 2 {
		if err := before.Reseal(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	after, _ = sealedIssuer(t, dir, "new.kek")
	if err := after.opens(t.Context()); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	before, _ = sealedIssuer(t, dir, "old.kek")
	if err := before.opens(t.Context()); !errors.Is(err, store.ErrOtherKEK) {
		t.Errorf("with the old key: %v", err)
	}
	after, _ = sealedIssuer(t, dir, "new.kek")
	if err := after.opens(t.Context()); err != nil { // the refusal wrote nothing
		t.Errorf("with the new key, again: %v", err)
	}
}

// Where no private key is left, as after a restore, the audit log alone tells that
// a key-encryption key is another.
func TestOtherKeyIsRefusedWithoutSigningKeys(t *testing.T) {
	dir := t.TempDir()
	right, _ := sealedIssuer(t, dir, "right.kek")
	wrong, _ := sealedIssuer(t, dir, "wrong.kek")
	if err := right.opens(t.Context()); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "backup.db")
	file, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(right.Backup(t.Context(), file), file.Close(), right.Restore(t.Context(), backup)); err != nil {
		t.Fatal(err)
	}
	if err := wrong.opens(t.Context()); !errors.Is(err, store.ErrOtherKEK) {
		t.Errorf("with another key: %v", err)
	}
	right, _ = sealedIssuer(t, dir, "right.kek")
	if err := right.opens(t.Context()); err != nil {
		t.Errorf("with the right key, afterwards: %v", err)
	}
}

// A key-encryption key that is missing is not made anew beside its database.
func TestMissingKeyIsNotMadeAnew(t *testing.T) {
	dir := t.TempDir()
	i, _ := sealedIssuer(t, dir, "issuer.kek")
	if err := i.opens(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "issuer.kek")); err != nil {
		t.Fatal(err)
	}
	if err := i.opens(t.Context()); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("without its key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "issuer.kek")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
}

// What was sealed under the old key is nowhere in the file any more, not in its
// free pages either: not when an earlier try was interrupted before that was done.
func TestResealLeavesNothingUnderTheOldKey(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		dir := t.TempDir()
		before, old := sealedIssuer(t, dir, "old.kek", keys.Algorithms()...)
		_, next := sealedIssuer(t, dir, "new.kek")
		if err := before.opens(t.Context()); err != nil {
			t.Fatal(err)
		}
		sealed := sealedKeys(t, before, old)
		if interrupted {
			sealing, err := keys.Reseal(old, next)
			if err != nil {
				t.Fatal(err)
			}
			if err := bolt.Reseal(t.Context(), string(before.config.Database), boltOptions(before.config, old, nil), sealing); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.ContainsFunc(sealed, func(part string) bool { return holds(t, before, part) }) {
			t.Fatalf("interrupted before: %v: no private key under the old key is in the file", interrupted)
		}
		if err := before.Reseal(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		for _, part := range sealed {
			if holds(t, before, part) {
				t.Errorf("interrupted before: %v: the file still holds a private key under the old key", interrupted)
			}
		}
	}
}

// sealedKeys are the private keys as they stand in the database, over so many
// pages that what is written later reuses not all of them.
func sealedKeys(t *testing.T, i *Issuer, kek *keys.KEK) (sealed []string) {
	t.Helper()
	db, err := openStore(i.config, kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := db.UpdateKeys(t.Context(), func(all []store.Key) (store.KeyChange, error) {
		for i, k := range all {
			all[i].Public = append(k.Public, bytes.Repeat([]byte(" "), 20_000)...)
		}
		return store.KeyChange{Put: all}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if k.Sealed != nil {
			sealed = append(sealed, base64.StdEncoding.EncodeToString(k.Sealed))
		}
	}
	return sealed
}

// holds tells whether the bytes of an issuer's database have a part.
func holds(t *testing.T, i *Issuer, part string) bool {
	t.Helper()
	file, err := os.ReadFile(string(i.config.Database))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(file, []byte(part))
}

// Killed at any moment, everything is under the one key or under the other.
func TestResealSurvivesKills(t *testing.T) {
	if dir := os.Getenv(resealVar); dir != "" {
		resealForever(t, dir)
		return
	}
	dir := t.TempDir()
	first, _ := sealedIssuer(t, dir, "0")
	if err := first.opens(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestResealSurvivesKills$")
		child.Env = append(os.Environ(), resealVar+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Each line is one that was done: the kill comes within the next.
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(3) {
			if !lines.Scan() {
				t.Fatalf("round %d: the child ended: %v", round, child.Wait())
			}
		}
		child.Process.Kill()
		child.Wait()
		opened := 0
		for _, kek := range []string{"0", "1"} {
			i, _ := sealedIssuer(t, dir, kek)
			switch err := i.opens(t.Context()); {
			case err == nil:
				opened++
			case !errors.Is(err, store.ErrOtherKEK):
				t.Errorf("round %d, key %s: %v", round, kek, err)
			}
		}
		if opened != 1 {
			t.Fatalf("round %d: it opens with %d of the two keys", round, opened)
		}
	}
}

// resealForever reseals a folder's database to and fro until it is killed.
func resealForever(t *testing.T, dir string) {
	for round := 0; ; round++ {
		i, present := sealedIssuer(t, dir, fmt.Sprint(round%2))
		_, next := sealedIssuer(t, dir, fmt.Sprint((round+1)%2))
		if i.sealedWith(t.Context(), present) != nil {
			continue // it was killed while the other key was in place
		}
		if err := i.Reseal(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		fmt.Println(round)
	}
}
