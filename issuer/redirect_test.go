package issuer

import (
	"net/url"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
)

// One row, one way of presenting a redirect URI that is, or is not, the one
// registered (RFC 6749 §3.1.2.3, RFC 8252 §7.3 and §8.3, RFC 9700 §2.1).
func TestProvenRedirect(t *testing.T) {
	web := store.Client{Type: store.Confidential, RedirectURIs: []string{"https://app.example/cb", "https://app.example/cb2?a=1", "http://localhost:3000/cb"}}
	browser := store.Client{Type: store.Public, RedirectURIs: []string{"https://spa.example/", "http://127.0.0.1:5173/cb"}}
	native := store.Client{Type: store.Native, RedirectURIs: []string{"http://127.0.0.1/cb", "http://[::1]/cb?x=1", "http://127.0.0.1:7000/fixed", "com.example.app:/cb", "https://claimed.example/cb"}}
	sloppy := store.Client{Type: store.Native, RedirectURIs: []string{
		"http://evil.example/cb", "javascript:alert(1)", "data:text/html,x", "https://app.example/cb#f", "https://user@app.example/cb",
		"myapp:/cb", "file:///etc/passwd", "https:///cb", "https://a;script-src%20*/cb", "http://localhost/cb", "",
	}}
	for _, row := range []struct {
		client    store.Client
		presented string
		want      bool
	}{
		{web, "https://app.example/cb", true},
		{web, "https://app.example/cb2?a=1", true},
		{web, "http://localhost:3000/cb", true},
		{web, "http://localhost:3001/cb", false},
		{web, "http://127.0.0.1:3000/cb", false},
		{web, "https://app.example/cb/", false},
		{web, "https://app.example/CB", false},
		{web, "https://APP.example/cb", false},
		{web, "HTTPS://app.example/cb", false},
		{web, "https://app.example:443/cb", false},
		{web, "https://app.example/cb?", false},
		{web, "https://app.example/cb?a=1", false},
		{web, "https://app.example/cb2", false},
		{web, "https://app.example/cb2?a=1&b=2", false},
		{web, "https://app.example/cb#", false},
		{web, "https://app.example/cb#x", false},
		{web, "https://app.example/cb%2f", false},
		{web, "https://app.example/x/../cb", false},
		{web, "https://app.example/./cb", false},
		{web, "https://app.example//cb", false},
		{web, "https://app.example\\cb", false},
		{web, "https://app.example@evil.example/cb", false},
		{web, "https://evil.example/https://app.example/cb", false},
		{web, "https://app.example.evil.example/cb", false},
		{web, "https://app.example./cb", false},
		{web, "http://app.example/cb", false},
		{web, "//app.example/cb", false},
		{web, "/cb", false},
		{web, " https://app.example/cb", false},
		{web, "https://app.example/cb ", false},
		{web, "https://app.example/cb\n", false},
		{web, "https://app.example/cb\x00", false},
		{web, "https://app.example/\tcb", false},
		{web, "", false},
		{web, "javascript:alert(1)", false},
		{browser, "https://spa.example/", true},
		{browser, "https://spa.example", false},
		{browser, "http://127.0.0.1:5173/cb", true},
		{browser, "http://127.0.0.1:5174/cb", false}, // only native clients vary the port
		{native, "http://127.0.0.1/cb", true},
		{native, "http://127.0.0.1:1/cb", true},
		{native, "http://127.0.0.1:65535/cb", true},
		{native, "http://127.0.0.1:49152/fixed", true},
		{native, "http://[::1]:8080/cb?x=1", true},
		{native, "com.example.app:/cb", true},
		{native, "https://claimed.example/cb", true},
		{native, "https://claimed.example:8443/cb", false},
		{native, "http://127.0.0.1:0/cb", false},
		{native, "http://127.0.0.1:65536/cb", false},
		{native, "http://127.0.0.1:080/cb", false},
		{native, "http://127.0.0.1:/cb", false},
		{native, "http://127.0.0.1:80x/cb", false},
		{native, "http://127.0.0.1:-1/cb", false},
		{native, "http://localhost:8080/cb", false},
		{native, "http://[::1]:8080/cb", false}, // its query is part of it
		{native, "http://[0:0:0:0:0:0:0:1]:8080/cb?x=1", false},
		{native, "http://127.0.0.2:8080/cb", false},
		{native, "http://127.1:8080/cb", false},
		{native, "http://2130706433/cb", false},
		{native, "http://127.0.0.1:8080/cb/x", false},
		{native, "http://127.0.0.1:8080/Cb", false},
		{native, "http://127.0.0.1:8080/cb?x", false},
		{native, "http://127.0.0.1:8080/cb#x", false},
		{native, "http://127.0.0.1:8080", false},
		{native, "https://127.0.0.1:8080/cb", false},
		{native, "http://user@127.0.0.1:8080/cb", false},
		{native, "http://127.0.0.1:8080@evil.example/cb", false},
		{native, "http://127.0.0.1@evil.example/cb", false},
		{native, "http://127.0.0.1.evil.example/cb", false},
		{native, "http://127.0.0.1%2eevil.example/cb", false},
		{native, "com.example.app:/CB", false},
		{native, "com.example.app://cb", false},
		// A registration that slipped in is no help.
		{sloppy, "http://evil.example/cb", false},
		{sloppy, "javascript:alert(1)", false},
		{sloppy, "data:text/html,x", false},
		{sloppy, "https://app.example/cb#f", false},
		{sloppy, "https://user@app.example/cb", false},
		{sloppy, "myapp:/cb", false},
		{sloppy, "file:///etc/passwd", false},
		{sloppy, "https:///cb", false},
		{sloppy, "https://a;script-src%20*/cb", false},
		{sloppy, "http://localhost:8080/cb", false},
	} {
		if got := provenRedirect(row.client, row.presented); got != row.want {
			t.Errorf("%q: proven = %t", row.presented, got)
		}
	}
}

// Whatever is proven leads to a registered host and path.
func FuzzProvenRedirect(f *testing.F) {
	client := store.Client{Type: store.Native, RedirectURIs: []string{"http://127.0.0.1/cb", "https://app.example/cb"}}
	for _, seed := range []string{"http://127.0.0.1:80/cb", "https://app.example/cb", "http://127.0.0.1:80@evil/cb", "http://127.0.0.1:1\\@e/cb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, presented string) {
		if !provenRedirect(client, presented) {
			return
		}
		u, err := url.Parse(presented)
		if err != nil {
			t.Fatal(err)
		}
		known := u.Scheme == "https" && u.Host == "app.example" || u.Scheme == "http" && u.Hostname() == "127.0.0.1"
		if !known || u.User != nil || u.Path != "/cb" || u.RawQuery != "" || u.Fragment != "" || strings.Contains(presented, "#") {
			t.Errorf("%q is proven", presented)
		}
	})
}
