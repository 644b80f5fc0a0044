package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/workload"
)

// inBackground runs until the test ends or stop is called.
func inBackground(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// await waits for a condition, within a deadline that only a fault exceeds.
func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(40 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s: %v", what, err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startAgent hands an Envoy its identity, where it has one.
func startAgent(t *testing.T, config envoy.Config) {
	t.Helper()
	if !config.Identity.Set() {
		return
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	source, err := workload.NewFiles(config.Identity, workload.Deps{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	inBackground(t, source.Run)
	sds := workload.NewSDS(&source.Live, logger)
	inBackground(t, func(ctx context.Context) error { return sds.Serve(ctx, config.Agent) })
}

// shortDir is a folder whose sockets' paths fit into 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeRuleKey(t *testing.T, dir string) conf.Path {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "rule.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf.Path(file)
}

// edgeClient trusts the test's certificate and follows no redirects.
func edgeClient(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(t, "testdata/edge.crt"))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 16}
	if !http2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// logBook keeps what Envoy logs, as a slog handler or as a writer.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (*logBook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logBook) WithAttrs([]slog.Attr) slog.Handler     { return b }
func (b *logBook) WithGroup(string) slog.Handler          { return b }
func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	_, err := b.Write([]byte(line + "\n"))
	return err
}

// Write takes whole lines.
func (b *logBook) Write(lines []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(lines)
	return len(lines), nil
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBook) last() string {
	lines := strings.Split(b.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
