package store_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

func TestHash(t *testing.T) {
	h := store.HashOf("secret")
	if !h.Matches("secret") || h.Matches("Secret") || h.Matches("") {
		t.Error("a hash matches what it should not, or not what it should")
	}
	if (store.Hash{}).Matches("") || (store.Hash{}).Matches("x") {
		t.Error("no hash matches something")
	}
	for _, want := range []store.Hash{h, {}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := store.HashOf("before")
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s came back as %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"ab", strings.Repeat("z", 64), strings.Repeat("a", 66)} {
		var got store.Hash
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a hash", bad)
		}
	}
}

func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		for _, made := range []string{store.NewToken("ghr_"), store.NewID("usr_")} {
			if seen[made] {
				t.Fatalf("%q was made twice", made)
			}
			seen[made] = true
		}
	}
	if token := store.NewToken("ghr_"); len(token) != len("ghr_")+43 || !strings.HasPrefix(token, "ghr_") {
		t.Errorf("a token is %q", token)
	}
}

func TestSuccessor(t *testing.T) {
	first := store.NewToken(store.RefreshPrefix)
	next := store.Successor([]byte("key"), first)
	if next != store.Successor([]byte("key"), first) {
		t.Error("a retry would get another successor")
	}
	if next == store.Successor([]byte("other"), first) || next == store.Successor([]byte("key"), first+"x") || next == first {
		t.Error("the successor does not depend on key and predecessor")
	}
	if len(next) != len(first) || !strings.HasPrefix(next, store.RefreshPrefix) {
		t.Errorf("the successor %q has another shape than %q", next, first)
	}
}

func TestIssuedAt(t *testing.T) {
	now := time.Unix(100, 999)
	for want, notBefore := range map[int64][]int64{100: {}, 101: {100}, 102: {50, 101}, 106: {105, 3}} {
		if got := store.IssuedAt(now, notBefore...); got.Unix() != want || got.Nanosecond() != 0 {
			t.Errorf("after %v: %v, want second %d", notBefore, got, want)
		}
	}
}

func TestParseLogin(t *testing.T) {
	for typed, want := range map[string]store.Login{
		"alice":             "alice",
		"Alice@Example.COM": "alice@example.com",
		"ＡＬＩＣＥ":             "alice",      // fullwidth letters
		"Jose\u0301":        "jos\u00e9",  // NFC
		"STRASSE":           "strasse",    //
		"Σίσυφος":           "σίσυφος",    //
		"a.b-c_d+e!":        "a.b-c_d+e!", //
		"李明":                "李明",         //
	} {
		if got, err := store.ParseLogin(typed); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "two words", "tab\t", "nul\x00", "line\n", "\xff", "zero\u200bwidth", "bidi\u202eoverride",
		"no\u00a0break", "emoji😀", strings.Repeat("x", 255),
	} {
		if got, err := store.ParseLogin(bad); err == nil {
			t.Errorf("%q was taken as %q", bad, got)
		}
	}
}

// What a login was parsed into parses into itself, so that looking somebody up
// by what the store returned finds them.
func FuzzParseLogin(f *testing.F) {
	for _, seed := range []string{"alice", "Alice@Example.COM", "ＡＬＩＣＥ", "Jose\u0301", "İstanbul", "ß", "ﬃ", "\u0345", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		login, err := store.ParseLogin(typed)
		if err != nil {
			return
		}
		if again, err := store.ParseLogin(string(login)); err != nil || again != login {
			t.Errorf("%q became %q, and that %q (%v)", typed, login, again, err)
		}
		if len(login) > 254 || strings.ContainsAny(string(login), " \x00\n\r\t") {
			t.Errorf("%q became %q", typed, login)
		}
	})
}
