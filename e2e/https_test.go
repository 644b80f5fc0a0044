package e2e

import (
	"crypto/tls"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
)

func TestHTTPSVersions(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	for _, row := range []struct {
		name     string
		version  uint16
		accepted bool
	}{
		{"TLS 1.0", tls.VersionTLS10, false},
		{"TLS 1.1", tls.VersionTLS11, false},
		{"TLS 1.2", tls.VersionTLS12, true},
		{"TLS 1.3", tls.VersionTLS13, true},
	} {
		config := s.TLS(t)
		config.MinVersion, config.MaxVersion = row.version, row.version
		conn, err := tls.Dial("tcp", s.Gateway(), config)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != row.accepted {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	strict := s.TLS(t)
	strict.RootCAs = nil
	if conn, err := tls.Dial("tcp", s.Gateway(), strict); err == nil {
		conn.Close()
		t.Error("the certificate is good without the development CA: the tests before prove nothing")
	}
	if answer, err := http.Get("http://" + s.Gateway() + "/open"); err == nil {
		answer.Body.Close()
		t.Errorf("plain HTTP at the TLS port: %s", answer.Status)
	}
}

func TestHTTPSRedirectAndHSTS(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("gateway.cors", map[string]any{"allow_origins": []string{page}})
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	plain := "http://" + s.Config().Text("gateway.redirect_listen")
	client := s.HTTP()
	for _, row := range []struct{ method, path, host string }{
		{"GET", "/orders?limit=3&after=a%20b", ""},
		{"POST", "/orders", ""},
		{"GET", "/unknown", ""},
		{"GET", "/", "evil.example"},
	} {
		request, err := http.NewRequest(row.method, plain+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = row.host
		request.Header.Set("Authorization", "Bearer "+access)
		before := s.Orders.Requests.Load()
		answer, err := harness.Read(client, request)
		if err != nil {
			t.Fatal(err)
		}
		// 308 keeps the method and the body, where a client follows it.
		if location := answer.Header.Get("Location"); answer.Status != 308 || location != s.URL(row.path) {
			t.Errorf("%s %s: %d to %q, want %s", row.method, row.path, answer.Status, location, s.URL(row.path))
		}
		if s.Orders.Requests.Load() != before {
			t.Errorf("%s %s arrived by plain HTTP", row.method, row.path)
		}
	}
	for _, row := range []struct {
		path, token string
		status      int
	}{{"/orders", access, 200}, {"/orders", "", 401}, {"/unknown", "", 404}, {"/open", "", 200}, {"/oauth/keys", "", 200}} {
		answer := s.Expect(t, row.status, "GET", row.path, row.token)
		if got := answer.Header.Values("Strict-Transport-Security"); len(got) != 1 || !strings.HasPrefix(got[0], "max-age=31536000") {
			t.Errorf("%s (%d): Strict-Transport-Security %q", row.path, row.status, got)
		}
	}
	crossOrigin(t, s, access)
}

// page is the origin of a web page elsewhere.
const page = "https://app.example.com"

// crossOrigin finds that a page elsewhere may ask, needs its token, and reads why
// it is refused; another page reads nothing.
func crossOrigin(t *testing.T, s *harness.System, access string) {
	t.Helper()
	for _, row := range []struct {
		name, method, token, origin string
		status                      int
		preflight                   string // the method that it is for
		arrives                     bool
	}{
		{"a preflight", "OPTIONS", "", page, 200, "POST", false},
		{"another page's preflight", "OPTIONS", "", "https://evil.example", 200, "POST", false},
		{"no preflight", "OPTIONS", "", page, 404, "", false},
		{"a request", "GET", access, page, 200, "", true},
		{"another page's", "GET", access, "https://evil.example", 200, "", true},
		{"without a token", "GET", "", page, 401, "", false},
		{"beyond its scope", "POST", access, page, 403, "", false},
	} {
		request := s.Request(t, "/orders", row.token)
		request.Method = row.method
		request.Header.Set("Origin", row.origin)
		if row.token == "" {
			request.Header.Del("Authorization")
		}
		if row.preflight != "" {
			request.Header.Set("Access-Control-Request-Method", row.preflight)
		}
		before := s.Orders.Requests.Load()
		answer := s.Send(t, request)
		if arrived := s.Orders.Requests.Load() != before; answer.Status != row.status || arrived != row.arrives {
			t.Errorf("%s: %s, want %d; it arrives: %v", row.name, answer, row.status, arrived)
		}
		allowed := map[bool]string{true: page}[row.origin == page && row.status != 404]
		if got := answer.Header.Get("Access-Control-Allow-Origin"); got != allowed {
			t.Errorf("%s: pages of %q may read it, want %q", row.name, got, allowed)
		}
	}
}

// The default on one machine: sockets and secrets are the owner's alone.
func TestHTTPSUnixSockets(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	sockets := 0
	err := filepath.WalkDir(filepath.Join(s.Dir, "data"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode&fs.ModeSocket != 0:
			sockets++
			if mode.Perm() != 0o600 {
				t.Errorf("the socket %s is %v, not 0600", path, mode.Perm())
			}
		case entry.IsDir():
			if mode.Perm()&0o077 != 0 {
				t.Errorf("the folder %s is %v, not 0700", path, mode.Perm())
			}
		case !strings.HasSuffix(path, ".crt") && !strings.HasSuffix(path, ".pub") && mode.Perm()&0o077 != 0:
			t.Errorf("the file %s is %v, not 0600", path, mode.Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sockets != 5 { // xds, authz, feed, admin, ca
		t.Errorf("there are %d sockets, not 5", sockets)
	}
	kek, err := os.ReadFile(filepath.Join(s.Dir, "data", "keys", "issuer.kek"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range s.Parts() {
		if strings.Contains(s.Process(name).Log(), strings.TrimSpace(string(kek))) {
			t.Errorf("the log of %s has the key encryption key", name)
		}
	}
}
