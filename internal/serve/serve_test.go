package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/conf"
)

// authority is a certificate authority for one test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   conf.Path
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.ca = a.write(t, "ca.crt", "CERTIFICATE", der)
	return a
}

// identity issues a certificate with these URI SANs.
func (a *authority) identity(t *testing.T, name string, uris ...string) Identity {
	t.Helper()
	return a.identityUntil(t, name, time.Now().Add(time.Hour), uris...)
}

func (a *authority) identityUntil(t *testing.T, name string, end time.Time, uris ...string) Identity {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{
		Certificate: a.write(t, name+".crt", "CERTIFICATE", der),
		Key:         a.write(t, name+".key", "PRIVATE KEY", private),
		CA:          a.ca,
	}
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) conf.Path {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf.Path(path)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// whoami answers the health check with the caller's identity as its error.
type whoami struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (whoami) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	caller, err := Caller(ctx, "spiffe://test/local")
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return nil, status.Error(codes.AlreadyExists, caller)
}

// startWhoami serves on address until the test ends, and returns the address
// to dial.
func startWhoami(t *testing.T, address string, id Identity) string {
	t.Helper()
	credentials, err := ServerCredentials(address, id)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials))
	grpc_health_v1.RegisterHealthServer(server, whoami{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- GRPC(ctx, listener, server) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, ok := UnixPath(address); ok {
		return address
	}
	return listener.Addr().String()
}

func ask(t *testing.T, address string, id Identity, peer string) (string, codes.Code) {
	t.Helper()
	credentials, err := DialCredentials(address, id, peer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	return status.Convert(err).Message(), status.Code(err)
}

func TestMutualTLSIdentifiesBothSides(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	address := startWhoami(t, "127.0.0.1:0", ours.identity(t, "server", "spiffe://test/server"))
	client := ours.identity(t, "client", "spiffe://test/client")

	if caller, code := ask(t, address, client, "spiffe://test/server"); code != codes.AlreadyExists || caller != "spiffe://test/client" {
		t.Errorf("the server sees %q (%v), want the client's SPIFFE id", caller, code)
	}
	mixed := theirs.identity(t, "mixed", "spiffe://test/client")
	mixed.CA = ours.ca
	for name, attempt := range map[string]struct {
		id   Identity
		peer string
		want codes.Code
	}{
		"server is another":              {client, "spiffe://test/other", codes.Unavailable},
		"server's id is only a prefix":   {client, "spiffe://test/serve", codes.Unavailable},
		"server under another authority": {theirs.identity(t, "c", "spiffe://test/client"), "spiffe://test/server", codes.Unavailable},
		"client under another authority": {mixed, "spiffe://test/server", codes.Unavailable},
		"client without a SPIFFE id":     {ours.identity(t, "none"), "spiffe://test/server", codes.Unauthenticated},
		"client with two ids":            {ours.identity(t, "two", "spiffe://test/client", "spiffe://test/admin"), "spiffe://test/server", codes.Unauthenticated},
		"client with another scheme":     {ours.identity(t, "web", "https://test/client"), "spiffe://test/server", codes.Unauthenticated},
	} {
		if message, code := ask(t, address, attempt.id, attempt.peer); code != attempt.want {
			t.Errorf("%s: %v (%s), want %v", name, code, message, attempt.want)
		}
	}
}

func TestUnixSocketIsPrivateAndVouchesForItsPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s")
	startWhoami(t, "unix:"+path, Identity{})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the socket's mode is %o, want 600", mode)
	}
	if caller, _ := ask(t, "unix:"+path, Identity{}, ""); caller != "spiffe://test/local" {
		t.Errorf("the server sees %q, want the configured local identity", caller)
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a second listener on a socket in use: %v", err)
	}
}

func TestListenReplacesOnlyAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	listener, err := Listen("unix:" + path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	listener.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's file outlives its listener: %v", err)
	}

	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Error("a regular file was taken for a stale socket")
	}
	if data, _ := os.ReadFile(path); string(data) != "data" {
		t.Error("the file in the way was harmed")
	}
}

func TestValidateAddress(t *testing.T) {
	id := Identity{Certificate: "c", Key: "k", CA: "a"}
	for _, row := range []struct {
		address string
		id      Identity
		ok      bool
	}{
		{"unix:/run/s", Identity{}, true},
		{"unix:", Identity{}, false},
		{"unix:/" + strings.Repeat("x", 106), Identity{}, true},
		{"unix:/" + strings.Repeat("x", 107), Identity{}, false},
		{"unix:/" + strings.Repeat("x", 91) + "/s", Identity{}, true},
		{"unix:/" + strings.Repeat("x", 92) + "/s", Identity{}, false}, // it is bound aside first
		{"127.0.0.1:1", Identity{}, false},                             // TCP needs mutual TLS, on loopback too
		{"127.0.0.1:1", id, true},
		{"127.0.0.1", id, false},
		{"", id, false},
	} {
		if got := ValidateAddress("listen", row.address, row.id) == nil; got != row.ok {
			t.Errorf("%q with identity %v: valid %v, want %v", row.address, row.id.Set(), got, row.ok)
		}
	}
}

func TestValidateLoopback(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "example.com:1": false, "127.0.0.1": false,
	} {
		if got := ValidateLoopback("telemetry", address) == nil; got != ok {
			t.Errorf("%q: valid %v, want %v", address, got, ok)
		}
	}
}

func TestReadyzSaysWhatIsMissing(t *testing.T) {
	lacks := []string{"keys of https://issuer", "policies"}
	handler := Telemetry(prometheus.NewRegistry(), func() []string { return lacks })
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w
	}
	if w := get(); w.Code != http.StatusServiceUnavailable || w.Body.String() != "keys of https://issuer\npolicies\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	lacks = nil
	if w := get(); w.Code != http.StatusOK {
		t.Errorf("ready, yet %d", w.Code)
	}
}

// A request under way when the context ends is answered; Run returns after it.
func TestHTTPDrains(t *testing.T) {
	listener, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, finish := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-finish
		w.WriteHeader(http.StatusTeapot)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done, answered := make(chan error, 1), make(chan int, 1)
	go func() { done <- HTTP(ctx, listener, handler) }()
	go func() {
		response, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	<-arrived
	cancel()
	select {
	case err := <-done:
		t.Fatalf("returned with a request under way: %v", err)
	default:
	}
	close(finish)
	if code := <-answered; code != http.StatusTeapot {
		t.Errorf("the request under way got %d", code)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
