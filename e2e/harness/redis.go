package harness

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Redis is a real one, on a Unix socket in the test's folder.
type Redis struct {
	// Address is its unix:PATH.
	Address string

	folder *Folder
	socket string
}

// StartRedis starts a Redis that ends with the test.
func (f *Folder) StartRedis(t testing.TB) *Redis {
	t.Helper()
	socket := filepath.Join(f.Dir, "redis.sock")
	r := &Redis{Address: "unix:" + socket, folder: f, socket: socket}
	r.Start(t)
	return r
}

// Start starts it, again after Kill, and waits until it answers. It remembers
// nothing.
func (r *Redis) Start(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing: install it (Debian: apt-get install redis-server)")
	}
	r.folder.Launch(t, "redis", exec.Command(path, "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no"))
	Eventually(t, 10*time.Second, func() error {
		conn, err := net.Dial("unix", r.socket)
		if err != nil {
			return fmt.Errorf("Redis does not answer: %w", err)
		}
		return conn.Close()
	})
}

// Kill ends it at once.
func (r *Redis) Kill() { r.folder.Process("redis").Kill() }
