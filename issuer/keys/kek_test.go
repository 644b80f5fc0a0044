package keys

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestEnsureKEK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "issuer.kek")
	var wg sync.WaitGroup
	made := make(chan bool, 8)
	for range cap(made) {
		wg.Go(func() {
			created, err := EnsureKEK(path)
			if err != nil {
				t.Error(err)
			}
			made <- created
		})
	}
	wg.Wait()
	close(made)
	count := 0
	for created := range made {
		if created {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d of %d say that they made the key", count, cap(made))
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %o (%v)", p, info.Mode(), want, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("drafts are left: %v", left)
	}
	first, err := LoadKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	if created, err := EnsureKEK(path); created || err != nil {
		t.Errorf("a second start: %v, %v", created, err)
	}
	second, err := LoadKEK(path)
	if err != nil || !bytes.Equal(first.Derive("x"), second.Derive("x")) {
		t.Errorf("the key changed: %v", err)
	}
	if bytes.Equal(first.Derive("x"), first.Derive("y")) || len(first.Derive("x")) != 32 {
		t.Error("two purposes share a key")
	}
}

func TestLoadKEKRefuses(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {good, 0o604, "chmod 600"},
		"readable by group":  {good, 0o640, "chmod 600"},
		"too short":          {good[:40], 0o600, "restore it"},
		"too long":           {good[:40] + "AAAAAAA=", 0o600, "restore it"},
		"no base64":          {strings.Repeat("!", 44), 0o600, "restore it"},
		"empty":              {"", 0o600, "restore it"},
	} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, row.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKEK(path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadKEK(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing key was loaded")
	}
}

// The key in the environment is the one of a file with the same text, and is
// there once: no child process inherits it.
func TestTakeKEK(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	filed, err := LoadKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(KEKVariable, text)
	taken, err := TakeKEK(KEKVariable)
	if err != nil || !bytes.Equal(taken.Derive("x"), filed.Derive("x")) {
		t.Errorf("another key than the file's: %v", err)
	}
	if again, err := TakeKEK(KEKVariable); again != nil || err != nil || slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, KEKVariable) }) {
		t.Errorf("it is still there: %v", err)
	}
	for _, bad := range []string{"", "secretsecret", text + text} {
		t.Setenv(KEKVariable, bad)
		if k, err := TakeKEK(KEKVariable); k != nil || err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
