package password

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

func newHasher(t testing.TB, parallel int) *Hasher {
	t.Helper()
	h, err := NewHasher(parallel)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	h := newHasher(t, 2)
	const chosen = "correct horse battery jose\u0301"
	phc, err := h.Hash(t.Context(), chosen)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(phc, "horse") {
		t.Errorf("the hash is %q", phc)
	}
	if again, _ := h.Hash(t.Context(), chosen); again == phc {
		t.Error("two hashes share a salt")
	}
	for typed, want := range map[string]bool{
		chosen:                                 true,
		"correct horse battery jos\u00e9":      true, // composed by another keyboard
		"correct\u00a0horse battery jos\u00e9": true,
		"Correct horse battery jos\u00e9":      false,
		"correct horse battery jos\u00e9 ":     false,
		"":                                     false,
		"nul\x00":                              false,
		strings.Repeat("x", MaxBytes+1):        false,
	} {
		if got, err := h.Verify(t.Context(), phc, typed); got != want || err != nil {
			t.Errorf("%q: %v, %v", typed, got, err)
		}
	}
}

// Somebody who tries logins learns nothing from how long the answer takes: the
// same hash is computed, once, for a user that does not exist and for a password
// that cannot be one.
func TestUnknownUsersCostTheSame(t *testing.T) {
	h := newHasher(t, 1)
	phc, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	var computed []params
	h.derive = func(password, salt []byte, p params) []byte {
		computed = append(computed, p)
		if len(salt) != saltSize {
			t.Errorf("the salt has %d bytes", len(salt))
		}
		return derive(password, salt, p)
	}
	for name, row := range map[string]struct{ phc, password string }{
		"right password":      {phc, "correct horse battery"},
		"wrong password":      {phc, "wrong horse battery"},
		"unknown user":        {"", "wrong horse battery"},
		"impossible password": {phc, "\x00"},
		"both":                {"", strings.Repeat("x", 2000)},
	} {
		computed = nil
		if ok, err := h.Verify(t.Context(), row.phc, row.password); ok != (name == "right password") || err != nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
		if len(computed) != 1 || computed[0] != current {
			t.Errorf("%s: computed %+v", name, computed)
		}
	}
	if len(h.decoy.sum) != hashSize {
		t.Errorf("the decoy's hash has %d bytes", len(h.decoy.sum))
	}
}

func TestHashesRunSoManyAtOnce(t *testing.T) {
	h := newHasher(t, 1)
	h.slots <- struct{}{} // the one place is taken
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := h.Verify(ctx, "", "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who gave up: %v", err)
		}
		if _, err := h.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who gave up: %v", err)
		}
	})
	cancel()
	wg.Wait()
	<-h.slots
	if _, err := h.Verify(t.Context(), "", "x"); err != nil {
		t.Errorf("the place was not given back: %v", err)
	}
	if _, err := NewHasher(0); err == nil {
		t.Error("a hasher without places")
	}
}

func TestParseRefuses(t *testing.T) {
	h := newHasher(t, 1)
	good := h.decoy.String()
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"another algorithm":   strings.Replace(good, "argon2id", "argon2i", 1),
		"another version":     strings.Replace(good, "v=19", "v=16", 1),
		"all the memory":      strings.Replace(good, "m=19456", "m=4194304", 1),
		"for ever":            strings.Replace(good, "t=2", "t=4000000", 1),
		"no pass":             strings.Replace(good, "t=2", "t=0", 1),
		"no lane":             strings.Replace(good, "p=1", "p=0", 1),
		"more lanes than fit": strings.Replace(good, "p=1", "p=257", 1),
		"sign":                strings.Replace(good, "t=2", "t=+2", 1),
		"cut":                 good[:len(good)-4],
		"more after it":       good + "$x",
		"padding":             good + "=",
		"plain":               "password",
	} {
		if _, err := h.Verify(t.Context(), bad, "x"); err == nil {
			t.Errorf("%s: %q was accepted", name, bad)
		}
	}
}

func TestCheck(t *testing.T) {
	for password, ok := range map[string]bool{
		"correct horse":                    true,
		"exactly12chr":                     true,
		"elevenchars":                      false,
		"пароль-пароль":                    true,
		"aaaaaaaaaaaaaaaa":                 false,
		"abababababababab":                 false,
		"tab\tin the middle":               false,
		"":                                 false,
		"\xff\xfe is no utf-8 text":        false,
		strings.Repeat("abcde ", 170):      true,
		strings.Repeat("abcde ", 171) + "": false,
	} {
		if err := Check(password); (err == nil) != ok {
			t.Errorf("%.30q (%d bytes): %v", password, len(password), err)
		}
	}
}

// Whatever parses is bounded and writes itself as it was read.
func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, phc string) {
		h, err := parse(phc)
		if err != nil {
			return
		}
		if h.String() != phc || h.memory > maxMemory || h.time > maxTime || h.lanes > maxLanes || h.lanes == 0 || h.time == 0 {
			t.Errorf("%q was read as %+v", phc, h)
		}
	})
}
