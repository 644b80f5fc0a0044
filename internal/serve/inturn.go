package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// lookAtTurn is how often a process looks whether somebody serves in its place.
const lookAtTurn = time.Second

// HTTPInTurn serves handler at "unix:PATH", an address that outlives each
// process that serves it: the next one takes its place by one rename, at no
// moment is nobody there, and who connected before is answered by the one
// before. So it must begin only when it can answer. Should the process in place
// go first, another that still runs takes the place back. It returns once ctx
// has ended and nothing of it runs any more; the file stays, as it may be the
// next one's.
//
// The folder decides who can put another socket there, so it must belong to
// this user or root, and be writable for nobody else. It also decides who can
// connect: the socket itself lets everybody. It is made 0700 where it is
// missing.
func HTTPInTurn(ctx context.Context, address string, handler http.Handler, logger *slog.Logger) error {
	path, ok := UnixPath(address)
	if !ok {
		return fmt.Errorf("listening on %s: write unix:PATH", address)
	}
	t := &turn{path: path, handler: handler, leave: func() {}}
	t.group, ctx = errgroup.WithContext(ctx)
	if err := t.take(ctx); err != nil {
		return err
	}
	t.group.Go(func() error {
		tick := time.NewTicker(lookAtTurn)
		defer tick.Stop()
		for failing := false; ; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if t.taken() {
				failing = false
				continue
			}
			if err := t.take(ctx); err != nil && !failing {
				logger.Error("nobody serves a shared socket", "error", err)
				failing = true
			}
		}
	})
	return t.group.Wait()
}

// turn is this process's part in serving a path.
type turn struct {
	path    string
	handler http.Handler
	group   *errgroup.Group
	leave   func() // ends serving on our last socket
}

// take puts a socket of ours in place and serves on it.
func (t *turn) take(ctx context.Context) error {
	if err := checkShared(filepath.Dir(t.path), os.Geteuid()); err != nil {
		return err
	}
	listener, err := bindAside(t.path, 0o666)
	if err != nil {
		return err
	}
	t.leave()
	serving, leave := context.WithCancel(ctx)
	t.leave = leave
	t.group.Go(func() error {
		defer leave()
		return HTTP(serving, listener, t.handler)
	})
	return nil
}

// taken tells whether somebody serves the path, we or another.
func (t *turn) taken() bool {
	conn, err := net.DialTimeout("unix", t.path, lookAtTurn)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// checkShared refuses a folder in which others than a user could put their
// socket in the place of ours: they may write neither to it nor, unless only to
// what is their own there (sticky, as /tmp), to any folder on the way to it.
func checkShared(dir string, user int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of a shared socket: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("looking at the folder of a shared socket: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("looking at the folder of a shared socket: %w", err)
	}
	// By its name and by what that stands for, for either could be replaced.
	for _, way := range []string{dir, real} {
		for at := way; ; at = filepath.Dir(at) {
			if err := checkFolder(at, at != real, user); err != nil {
				return err
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return nil
}

// checkFolder judges one folder, or link to one, on the way to a shared socket.
func checkFolder(path string, sticky bool, user int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("looking at the folder of a shared socket: %w", err)
	}
	mode := info.Mode()
	if mode.Perm()&0o022 != 0 && mode&os.ModeSymlink == 0 && !(sticky && mode&os.ModeSticky != 0) {
		return fmt.Errorf("the folder %s of a shared socket is writable for others (mode %o), who could answer in our place: chmod go-w it, or choose another", path, mode.Perm())
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != user {
		return fmt.Errorf("the folder %s of a shared socket belongs to the user %d, who could answer in our place: chown it to this user, or choose another", path, s.Uid)
	}
	return nil
}
