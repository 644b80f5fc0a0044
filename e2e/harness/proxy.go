package harness

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
)

// Link is a Unix socket that leads to another one, until it is cut.
type Link struct {
	// Path is the socket to connect to.
	Path   string
	target string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

// NewLink opens a link to a socket, which need not be there yet.
func NewLink(t testing.TB, path, target string) *Link {
	t.Helper()
	l := &Link{Path: path, target: target}
	l.Mend(t)
	t.Cleanup(l.Cut)
	return l
}

// Cut breaks every connection and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
	for conn := range l.conns {
		conn.Close()
	}
	l.conns = map[net.Conn]bool{}
}

// Mend lets connections through again.
func (l *Link) Mend(t testing.TB) {
	t.Helper()
	l.Cut()
	os.Remove(l.Path)
	listener, err := net.Listen("unix", l.Path)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(conn)
		}
	}()
}

func (l *Link) join(near net.Conn) {
	far, err := net.Dial("unix", l.target)
	if err != nil {
		near.Close()
		return
	}
	if !l.keep(near, far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { io.Copy(far, near); far.Close() })
	both.Go(func() { io.Copy(near, far); near.Close() })
	both.Wait()
}

// keep remembers a pair, unless the link was cut meanwhile.
func (l *Link) keep(pair ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range pair {
		if l.listener == nil {
			conn.Close()
			continue
		}
		l.conns[conn] = true
	}
	return l.listener != nil
}
