package password

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// What another system hashed is verified, and replaced by what we would make.
func TestImportedBcrypt(t *testing.T) {
	h := newHasher(t, 1)
	const chosen = "short pw"
	hash := bcryptOf(t, chosen)
	for _, variant := range []string{"$2a$", "$2b$", "$2y$"} {
		imported := variant + hash[4:]
		if err := CheckHash(imported); err != nil {
			t.Errorf("%s: %v", imported, err)
		}
		if variant == "$2y$" { // PHP's name for the same
			imported = hash
		}
		for typed, want := range map[string]bool{chosen: true, "Short pw": false, "": false} {
			if got, err := h.Verify(t.Context(), imported, typed); got != want || err != nil {
				t.Errorf("%s, %q: %v, %v", imported, typed, got, err)
			}
		}
	}
	long := strings.Repeat("x", 72)
	if got, _ := h.Verify(t.Context(), bcryptOf(t, long), long+"y"); got {
		t.Error("what bcrypt cuts off was taken for the password")
	}
	better, err := h.Upgrade(t.Context(), hash, chosen)
	if err != nil || !strings.HasPrefix(better, "$argon2id$") {
		t.Fatalf("upgraded to %q, %v", better, err)
	}
	if good, err := h.Verify(t.Context(), better, chosen); !good || err != nil {
		t.Errorf("the upgraded hash: %v, %v", good, err)
	}
	for name, hash := range map[string]string{"present": better, "none": ""} {
		if again, err := h.Upgrade(t.Context(), hash, chosen); again != "" || err != nil {
			t.Errorf("%s is upgraded: %q, %v", name, again, err)
		}
	}
	if again, err := h.Upgrade(t.Context(), strings.Replace(better, "t=2", "t=1", 1), chosen); again == "" || err != nil {
		t.Errorf("weaker parameters stay: %v", err)
	}
}

// A hash must not stop the process, however it got into the store.
func TestBcryptIsBounded(t *testing.T) {
	h := newHasher(t, 1)
	good := bcryptOf(t, "x")
	for name, bad := range map[string]string{
		"cost 15":    strings.Replace(good, "$04$", "$15$", 1),
		"cost 31":    strings.Replace(good, "$04$", "$31$", 1),
		"cost 3":     strings.Replace(good, "$04$", "$03$", 1),
		"cut":        good[:59],
		"longer":     good + "x",
		"other kind": "$2x$" + good[4:],
		"MD5":        "$1$abcdefgh$0123456789012345678901",
		"empty":      "",
	} {
		if err := CheckHash(bad); err == nil {
			t.Errorf("%s: %q may be imported", name, bad)
		}
		if ok, err := h.Verify(t.Context(), bad, "x"); ok || (err == nil && bad != "") {
			t.Errorf("%s: verified %v, %v", name, ok, err)
		}
	}
	h.slots <- struct{}{} // no place is free
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Verify(ctx, good, "x"); err == nil {
		t.Error("bcrypt runs beside the places there are")
	}
}
