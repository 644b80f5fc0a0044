package issuer

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/internal/serve"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newIssuer(t *testing.T, change func(*Config)) *Issuer {
	t.Helper()
	listen := freeAddress(t)
	config := Config{URL: "http://" + listen, Listen: listen, Telemetry: freeAddress(t), APIs: []API{{Audience: ordersAPI, Scopes: []string{"read:orders"}}}}
	config.SetDefaults(t.TempDir())
	change(&config)
	i, err := New(config, Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case <-deadline:
			t.Fatalf("waiting in vain until %s", what)
		case <-ticker.C:
			if holds() {
				return
			}
		}
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	path, _ := serve.UnixPath(address)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The whole process: a client made over the admin socket gets a token over
// HTTP, its revocation comes over the feed, and the end leaves nothing behind.
func TestRun(t *testing.T) {
	i := newIssuer(t, func(*Config) {})
	if len(i.Missing()) == 0 {
		t.Error("ready before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	eventually(t, "the issuer is ready", func() bool { return len(i.Missing()) == 0 })

	created, err := adminv1.NewAdminClient(dial(t, i.config.AdminSocket)).CreateClient(ctx, &adminv1.CreateClientRequest{Client: &adminv1.Client{
		Id: "machine", Type: adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL, GrantTypes: []string{"client_credentials"}, Scopes: []string{"read:orders"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := revocationv1.NewRevocationFeedClient(dial(t, i.config.FeedListen)).Watch(ctx, &revocationv1.WatchRequest{Issuer: i.config.URL})
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"machine"}, "client_secret": {created.Secret}}
	s := &site{T: t, url: i.config.URL, http: http.DefaultClient}
	access := s.request("POST", pathToken, form.Encode()).json(t)["access_token"].(string)
	if a := s.request("POST", pathRevoke, with(form, "token", access).Encode()); a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	_, claims := decodeJWS(t, access)
	for seen := false; !seen; {
		message, err := feed.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range append(message.GetChanges().GetRevocations(), message.GetSnapshot().GetRevocations()...) {
			seen = seen || r.Kind == revocationv1.Kind_KIND_TOKEN && r.Id == claims["jti"]
		}
	}
	telemetry := &site{T: t, url: "http://" + i.config.Telemetry, http: http.DefaultClient}
	if a := telemetry.request("GET", "/readyz", ""); a.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %s", a.body)
	}
	if a := telemetry.request("GET", "/metrics", ""); !strings.Contains(a.body, `gatehouse_issuer_tokens_total{grant_type="client_credentials"} 1`) {
		t.Errorf("/metrics: %s", a.body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(i.Missing()) == 0 {
		t.Error("ready after it ended")
	}
	for _, socket := range []string{i.config.AdminSocket, i.config.FeedListen} {
		path, _ := serve.UnixPath(socket)
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left behind", path)
		}
	}
}

// A port in use is told by its key, before anything is made.
func TestRunNamesTheAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	i := newIssuer(t, func(c *Config) { c.Telemetry = taken.Addr().String() })
	if err := i.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "issuer.telemetry") {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Stat(string(i.config.Database)); err == nil {
		t.Error("the database was made all the same")
	}
}

// Keys and database are for the owner alone.
func TestFilesArePrivate(t *testing.T) {
	i := newIssuer(t, func(*Config) {})
	if err := i.Administer(t.Context(), func(adminv1.AdminServer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{string(i.config.Database), string(i.config.KeyEncryptionKey)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		folder, err := os.Stat(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "keys") && folder.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", filepath.Dir(path), folder.Mode())
		}
	}
}

func TestNewRefusesABadConfiguration(t *testing.T) {
	if _, err := New(Config{}, Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	config := soundConfig()
	if _, err := New(config, Deps{}); err == nil {
		t.Error("missing dependencies are accepted")
	}
}

// A lost key-encryption key is told, not replaced by one that opens nothing.
func TestLostKeyEncryptionKey(t *testing.T) {
	i := newIssuer(t, func(*Config) {})
	nothing := func(adminv1.AdminServer) error { return nil }
	if err := i.Administer(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(string(i.config.KeyEncryptionKey)); err != nil {
		t.Fatal(err)
	}
	if err := i.Administer(t.Context(), nothing); err == nil || !strings.Contains(err.Error(), "issuer.key_encryption_key") || !strings.Contains(err.Error(), "backup") {
		t.Errorf("opening: %v", err)
	}
	if _, err := os.Stat(string(i.config.KeyEncryptionKey)); err == nil {
		t.Error("another key was made")
	}
}
