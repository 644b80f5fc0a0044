package envoy

import (
	"context"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
)

// An Envoy that was killed is followed by another; the caller notices nothing.
func TestKeepStartsAnotherEnvoy(t *testing.T) {
	t.Setenv("ENVOY", realEnvoy(t))
	dir := t.TempDir()
	config := Config{Admin: "unix:" + filepath.Join(dir, "admin.sock"), XDS: "unix:" + filepath.Join(dir, "xds.sock")}
	config.SetDefaults(dir)
	started := make(chan int, 8)
	p, err := New(config, slog.New(pidHandler{started}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Keep(ctx) }()
	for range 3 {
		pid := <-started
		await(t, "Envoy's administration", p.alive.Load)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "its end", func() bool { return !p.alive.Load() })
	}
	last := <-started
	await(t, "the last Envoy's administration", p.alive.Load)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Keep: %v", err)
	}
	if err := syscall.Kill(last, 0); err == nil {
		t.Errorf("process %d is still there", last)
	}
}
