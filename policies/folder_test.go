package policies

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// files is a folder of policies, by relative name.
type files map[string]string

func (f files) in(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func (f files) load(t testing.TB) *Set {
	t.Helper()
	set, err := Load(f.in(t))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func write(t testing.TB, at, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(at), 0o700))
	must(t, os.WriteFile(at, []byte(text), 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that the file system brings about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// request is a request that every policy of these tests could allow.
func request() Input {
	return Input{
		Route:    Route{ID: "orders-delete", Service: "orders"},
		Request:  Request{Method: "DELETE", Path: "/orders/7", Query: "dry=1", Host: "localhost", SourceAddress: "127.0.0.1", Headers: map[string]string{"x-request-id": "r1"}},
		Token:    Token{Issuer: "https://localhost:8443", Subject: "usr_1", SubjectType: "user", ClientID: "shop", Audience: []string{"https://orders.example"}, Scopes: []string{"write:orders"}, Roles: []string{"approver"}, ID: "j1", SessionID: "s1", GrantID: "g1", IssuedAt: time.Unix(1000, 0), ExpiresAt: time.Unix(1600, 0), Claims: map[string]any{"tenant": "acme", "level": float64(3)}},
		Required: Required{Scopes: []string{"write:orders"}},
	}
}
