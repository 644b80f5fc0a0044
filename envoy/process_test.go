package envoy

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort is a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// await waits for a condition, within a deadline that only a fault exceeds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// An Envoy is started, answers, and is gone once Run has returned.
func TestRunLeavesNoProcess(t *testing.T) {
	t.Setenv("ENVOY", realEnvoy(t))
	config := Config{Admin: freePort(t), XDS: "unix:" + filepath.Join(t.TempDir(), "xds.sock")}
	config.SetDefaults("")
	started := make(chan int, 1)
	p, err := New(config, slog.New(pidHandler{started}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	pid := <-started
	await(t, "Envoy's administration", func() bool {
		conn, err := net.Dial("tcp", config.Admin)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if err := p.Ready(ctx); err == nil {
		t.Error("Envoy is told ready without a control plane")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

// An Envoy that ends by itself is an error that Run returns at once.
func TestRunTellsThatEnvoyEnded(t *testing.T) {
	t.Setenv("ENVOY", realEnvoy(t))
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	config := Config{Admin: occupied.Addr().String(), XDS: "unix:" + filepath.Join(t.TempDir(), "xds.sock")}
	config.SetDefaults("")
	p, err := New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("Run with the administration's port in use: %v", err)
	}
}

func TestFindRefusesWhatWasNamedAndDoesNotDo(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	script := "#!/bin/sh\necho 'envoy  version: abc/1.20.0/Clean/RELEASE/BoringSSL'\n"
	if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), old); err == nil || !strings.Contains(err.Error(), "1.20.0") || !strings.Contains(err.Error(), Newest) {
		t.Errorf("an old Envoy: %v", err)
	}
	if _, err := Find(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such Envoy: %v", err)
	}
	t.Setenv("ENVOY", old)
	if _, err := Find(t.Context(), ""); err == nil {
		t.Error("$ENVOY names an old Envoy, and another was taken instead")
	}
}

// pidHandler is a log handler that passes on the pid that the start logs.
type pidHandler struct{ started chan<- int }

func (pidHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h pidHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h pidHandler) WithGroup(string) slog.Handler          { return h }
func (h pidHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "pid" {
			h.started <- int(a.Value.Int64())
		}
		return true
	})
	return nil
}
