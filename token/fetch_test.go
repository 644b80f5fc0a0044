package token

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"gatehouse.dev/gatehouse/token/tokentest"
)

// fetchFrom fetches once over the real network.
func fetchFrom(t *testing.T, config RemoteConfig) (*Remote, error) {
	t.Helper()
	config.Algorithms = Algorithms()
	r, err := NewRemote(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.fetch(context.Background())
	return r, err
}

// serveKeys counts requests beside answering them.
func serveKeys(t *testing.T, start func(*httptest.Server), handler http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var hits atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		hits.Add(1)
		handler(w, request)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(server)
	t.Cleanup(server.Close)
	return server, &hits
}

func answerWith(keys ...*tokentest.Key) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(tokentest.JWKS(keys...)) }
}

func TestRemoteConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*RemoteConfig){
		"no URL":                      func(c *RemoteConfig) { c.URL = "" },
		"no host":                     func(c *RemoteConfig) { c.URL = "https:///keys" },
		"a file":                      func(c *RemoteConfig) { c.URL = "file:///etc/passwd" },
		"gopher":                      func(c *RemoteConfig) { c.URL = "gopher://issuer.example/" },
		"a password":                  func(c *RemoteConfig) { c.URL = "https://u:p@issuer.example/" },
		"no URL at all":               func(c *RemoteConfig) { c.URL = "https://[::1" },
		"http":                        func(c *RemoteConfig) { c.URL = "http://issuer.example/" },
		"no algorithm":                func(c *RemoteConfig) { c.Algorithms = nil },
		"a negative age":              func(c *RemoteConfig) { c.MaxAge = -1 },
		"a negative interval":         func(c *RemoteConfig) { c.Interval = -1 },
		"a negative interval between": func(c *RemoteConfig) { c.MinInterval = -1 },
	} {
		config := RemoteConfig{URL: "https://issuer.example/keys", Algorithms: Algorithms()}
		change(&config)
		if r, err := NewRemote(config); err == nil || r != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFetch(t *testing.T) {
	key := tokentest.NewKey("ES256")
	server, hits := serveKeys(t, (*httptest.Server).Start, answerWith(key))
	r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true})
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, r, key)
	if hits.Load() != 1 {
		t.Errorf("%d requests", hits.Load())
	}
}

// TestFetchOverTLS verifies the server, and takes nothing from one it cannot.
func TestFetchOverTLS(t *testing.T) {
	key := tokentest.NewKey("ES256")
	server, hits := serveKeys(t, (*httptest.Server).StartTLS, answerWith(key))
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, r, key)
	r, err = fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true})
	if err == nil || r.Keys() != nil || hits.Load() != 1 {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
}

// TestFetchFollowsNoRedirect, neither to another host nor to its own.
func TestFetchFollowsNoRedirect(t *testing.T) {
	key := tokentest.NewKey("ES256")
	target, hits := serveKeys(t, (*httptest.Server).Start, answerWith(key))
	for _, status := range []int{301, 302, 303, 307, 308} {
		server, _ := serveKeys(t, (*httptest.Server).Start, func(w http.ResponseWriter, request *http.Request) {
			http.Redirect(w, request, target.URL, status)
		})
		r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true})
		if err == nil || r.Keys() != nil || hits.Load() != 0 {
			t.Errorf("%d was followed: %v", status, err)
		}
	}
}

// TestFetchUnpacksNothing: what is small when packed may be large.
func TestFetchUnpacksNothing(t *testing.T) {
	key := tokentest.NewKey("ES256")
	server, _ := serveKeys(t, (*httptest.Server).Start, func(w http.ResponseWriter, request *http.Request) {
		if strings.Contains(request.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("packed answers are asked for")
		}
		w.Header().Set("Content-Encoding", "gzip")
		packer := gzip.NewWriter(w)
		packer.Write(tokentest.JWKS(key))
		packer.Close()
	})
	if r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true}); err == nil || r.Keys() != nil {
		t.Error("a packed answer is taken")
	}
}

// TestFetchBoundsHeaders is for a server that sends them without end.
func TestFetchBoundsHeaders(t *testing.T) {
	key := tokentest.NewKey("ES256")
	server, _ := serveKeys(t, (*httptest.Server).Start, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Fill", strings.Repeat("x", 64<<10))
		w.Write(tokentest.JWKS(key))
	})
	if r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true}); err == nil || r.Keys() != nil {
		t.Error("taken")
	}
}

// TestFetchBoundsTheBody: it stops reading, long before the time is up.
func TestFetchBoundsTheBody(t *testing.T) {
	const chunk = 64 << 10
	sent := make(chan int, 1)
	server, _ := serveKeys(t, (*httptest.Server).Start, func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		for space := []byte(strings.Repeat(" ", chunk)); ; n += chunk {
			if _, err := w.Write(space); err != nil {
				sent <- n
				return
			}
		}
	})
	if r, err := fetchFrom(t, RemoteConfig{URL: server.URL, AllowInternal: true}); err == nil || r.Keys() != nil {
		t.Error("taken")
	}
	// What the sockets buffer counts as well.
	if n := <-sent; n > 64*MaxKeySetSize {
		t.Errorf("%d bytes were sent before the fetch gave up", n)
	}
}

// TestFetchStaysOutside: an address is judged once it is known, so that a name
// which leads inside is no way in.
func TestFetchStaysOutside(t *testing.T) {
	key := tokentest.NewKey("ES256")
	server, hits := serveKeys(t, (*httptest.Server).StartTLS, answerWith(key))
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.0.0.2", "0.0.0.0"} {
		r, err := fetchFrom(t, RemoteConfig{URL: "https://" + host + ":" + port + "/keys", RootCAs: roots})
		if err == nil || !strings.Contains(err.Error(), "not a public address") || r.Keys() != nil || hits.Load() != 0 {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestFetchUsesNoProxy: the environment's would be asked to go where we do not.
func TestFetchUsesNoProxy(t *testing.T) {
	transport, ok := newClient(RemoteConfig{}).Transport.(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("the client has a proxy")
	}
}

func TestIsPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "93.184.216.34": true, "172.15.255.255": true, "172.32.0.1": true,
		"100.63.255.255": true, "100.128.0.1": true, "223.255.255.255": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"::ffff:8.8.8.8": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "100.100.100.200": false,
		"127.0.0.1": false, "127.255.255.254": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.192": false, "192.0.2.1": false, "192.168.1.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false,
		"255.255.255.255": false,

		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false, "3fff::1": false, "fc00::1": false, "fd00:ec2::254": false, "fe80::1": false,
		"fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "2606:4700::1111%eth0": false, "5f00::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %v, want %v", text, got, want)
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("no address is a public one")
	}
	for _, address := range []string{"", "8.8.8.8", "issuer.example:443", "/run/socket"} {
		if OnlyPublic("tcp", address, nil) == nil {
			t.Errorf("%q may be connected to", address)
		}
	}
}
