package controlplane

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/controlplane/ca"
)

// startTLSService is an HTTPS back end that takes TLS 1.3 alone.
func startTLSService(t *testing.T, certificate, key string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// startH2C is a back end that speaks HTTP/2 without TLS alone.
func startH2C(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Each kind of back end is spoken to as its URL says, and one over TLS must be
// who it should be.
func TestBackends(t *testing.T) {
	dir := t.TempDir()
	authority, err := ca.Open(filepath.Join(dir, "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	crt, key := filepath.Join(dir, "s.crt"), filepath.Join(dir, "s.key")
	if _, err := authority.Keep(crt, key, ca.Subject{Hosts: []string{"localhost", "127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	otherCrt, otherKey := filepath.Join(dir, "o.crt"), filepath.Join(dir, "o.key")
	if _, err := authority.Keep(otherCrt, otherKey, ca.Subject{Hosts: []string{"other.example"}}); err != nil {
		t.Fatal(err)
	}
	trusted := filepath.Join(dir, "ca", "ca.crt")
	good, other := startTLSService(t, crt, key), startTLSService(t, otherCrt, otherKey)
	stalled := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(stalled.Close)
	r := newRig(t, fmt.Sprintf(`
services:
  named: {url: "https://localhost:%[1]s", ca: %[3]s}
  numbered: {url: "https://127.0.0.1:%[1]s", ca: %[3]s}
  other: {url: "https://127.0.0.1:%[2]s", ca: %[3]s}
  untrusted: {url: "https://localhost:%[1]s"}
  grpc: {url: "h2c://%[4]s"}
  stalled: {url: "%[5]s"}
routes:
  - {id: named, path: /named, service: named, public: true}
  - {id: numbered, path: /numbered, service: numbered, public: true}
  - {id: other, path: /other, service: other, public: true}
  - {id: untrusted, path: /untrusted, service: untrusted, public: true}
  - {id: grpc, path: /grpc, service: grpc, public: true}
  - {id: stalled, path: /stalled, service: stalled, public: true, timeout: 100ms}
`, good, other, trusted, startH2C(t), stalled.URL))
	for path, want := range map[string]string{
		"/named": "200 HTTP/2.0", "/numbered": "200 HTTP/2.0", "/grpc": "200 HTTP/2.0",
		// What is wrong with a service is nothing to tell strangers.
		"/other":     `503 {"detail":"What this request needs cannot be reached now."`,
		"/untrusted": `503 {"detail":"What this request needs cannot be reached now."`,
		"/stalled":   `504 {"detail":"What this request needs took too long."`,
	} {
		status, body := r.get(t, path)
		if got := fmt.Sprint(status, " ", body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// testTLS: TLS 1.2 and 1.3 with ciphers that have forward secrecy, HTTP/2 where
// the client can.
func testTLS(t *testing.T, r *rig) {
	roots := r.client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	for name, row := range map[string]struct {
		config   *tls.Config
		protocol string
		fails    bool
	}{
		"TLS 1.3":                    {&tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}, "h2", false},
		"TLS 1.2":                    {&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, "http/1.1", false},
		"TLS 1.1":                    {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "", true},
		"without forward secrecy":    {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, "", true},
		"without authenticated data": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, "", true},
	} {
		row.config.RootCAs, row.config.ServerName = roots, "localhost"
		conn, err := tls.Dial("tcp", r.gateway.Listen, row.config)
		if (err != nil) != row.fails {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if got := conn.ConnectionState().NegotiatedProtocol; got != row.protocol {
				t.Errorf("%s: protocol %q, want %q", name, got, row.protocol)
			}
			conn.Close()
		}
	}
}

// testUpgrades: no request turns into something that is not checked any more.
func testUpgrades(t *testing.T, r *rig, site *service) {
	site.last()
	for _, upgrade := range []string{"websocket", "h2c", "anything"} {
		status, _ := r.get(t, "/public/x", "Connection", "Upgrade", "Upgrade", upgrade)
		if got := site.last(); status == http.StatusSwitchingProtocols || got != nil && got.Header.Get("Upgrade") != "" {
			t.Errorf("%s: %d, the service sees %v", upgrade, status, got)
		}
	}
	if response, _ := r.ask(t, r.http1, http.MethodConnect, "/public/x"); response.StatusCode == http.StatusOK {
		t.Error("CONNECT is let through")
	}
}
