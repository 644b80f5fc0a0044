package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inTurn serves its name at a path until end is called.
func inTurn(t *testing.T, path, name string) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- HTTPInTurn(ctx, "unix:"+path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }), slog.New(slog.DiscardHandler))
	}()
	ended := false
	end = func() {
		if cancel(); !ended {
			ended = true
			if err := <-done; err != nil {
				t.Errorf("%s ended with %v", name, err)
			}
		}
	}
	t.Cleanup(end)
	return end
}

// askAt is who answers at a path, each time on a new connection.
func askAt(path string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	answer, err := client.Get("http://shared/")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// until asks until somebody answers.
func until(t *testing.T, path, name string) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := askAt(path)
		if err == nil && got == name {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%q answers (%v), want %q", got, err, name)
		}
	}
}

// One process takes over from another, again and again, and nobody who asks is
// ever left without an answer.
func TestInTurnNobodyIsLeftWithout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "keys.sock")
	end := inTurn(t, path, "0")
	until(t, path, "0")
	ctx, stop := context.WithCancel(t.Context())
	failed, answers := make(chan error, 1), make(chan string)
	go func() {
		defer close(answers)
		for ctx.Err() == nil {
			name, err := askAt(path)
			if err != nil {
				failed <- err
				return
			}
			answers <- name
		}
	}()
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		next := inTurn(t, path, name)
		for got := range answers { // by the one before, and then by this one
			if got == name {
				break
			}
		}
		end()
		if got := <-answers; got != name {
			t.Errorf("%q answers after %s has taken over", got, name)
		}
		end = next
	}
	stop()
	for range answers {
	}
	select {
	case err := <-failed:
		t.Errorf("left without an answer: %v", err)
	default:
	}
}

// Who was replaced takes its place back when the next one goes, or when the
// file does.
func TestInTurnTakesItsPlaceBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "keys.sock")
	inTurn(t, path, "first")
	until(t, path, "first")
	end := inTurn(t, path, "second")
	until(t, path, "second")
	end()
	until(t, path, "first")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until(t, path, "first")
}

// Who answers there is decided by the folder, so nobody else may write to it.
func TestInTurnFolder(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	end := inTurn(t, filepath.Join(run, "s"), "x")
	until(t, filepath.Join(run, "s"), "x")
	end()
	for path, want := range map[string]os.FileMode{run: 0o700, filepath.Join(run, "s"): 0o666} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want mode %o (%v)", path, info.Mode(), want, err)
		}
	}
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o770, 0o702} {
		open := filepath.Join(dir, "open")
		if err := errors.Join(os.MkdirAll(open, 0o700), os.Chmod(open, mode)); err != nil {
			t.Fatal(err)
		}
		err := HTTPInTurn(t.Context(), "unix:"+filepath.Join(open, "s"), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "writable for others") {
			t.Errorf("in a folder with mode %v: %v", mode, err)
		}
		err = checkShared(filepath.Join(open, "below"), os.Geteuid())
		if sticky := mode&os.ModeSticky != 0; (err == nil) != sticky {
			t.Errorf("below a folder with mode %v: %v", mode, err)
		}
		if err := os.Symlink(run, filepath.Join(open, "link")); err != nil {
			t.Fatal(err)
		}
		err = checkShared(filepath.Join(open, "link"), os.Geteuid())
		if sticky := mode&os.ModeSticky != 0; (err == nil) != sticky {
			t.Errorf("by a link in a folder with mode %v: %v", mode, err)
		}
		if err := os.RemoveAll(open); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(dir, "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	user := os.Geteuid()
	if user == 0 { // root's folders are everybody's to use
		if err := os.Chown(foreign, 65534, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkShared(foreign, user+1); err == nil || !strings.Contains(err.Error(), "belongs to the user") {
		t.Errorf("in another user's folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(run, "file"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := HTTPInTurn(t.Context(), "unix:"+filepath.Join(run, "file"), http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file was replaced")
	}
	if err := HTTPInTurn(t.Context(), "127.0.0.1:0", http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a port is shared: others could take it")
	}
}
