package ca

import (
	"net"
	"net/netip"
	"sync"
)

const (
	// maxConnections bounds what everybody together holds open, and
	// maxFromOne what one address does: a machine with hundreds of sidecars.
	maxConnections = 8192
	maxFromOne     = 512
)

// crowdLimit is a listener that closes at once what is too much, so that who has
// no identity yet can neither take the memory nor, from one address, the turn of
// all others.
type crowdLimit struct {
	net.Listener
	all, each int

	mu   sync.Mutex
	open map[netip.Prefix]int
	sum  int
}

func limitCrowd(l net.Listener, all, each int) *crowdLimit {
	return &crowdLimit{Listener: l, all: all, each: each, open: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (b *crowdLimit) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, ok := networkOf(conn.RemoteAddr())
		if ok && b.enter(from) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { b.leave(from) })}, nil
		}
		conn.Close()
	}
}

func (b *crowdLimit) enter(from netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sum >= b.all || b.open[from] >= b.each {
		return false
	}
	b.sum++
	b.open[from]++
	return true
}

func (b *crowdLimit) leave(from netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum--
	if b.open[from]--; b.open[from] == 0 {
		delete(b.open, from)
	}
}

type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}
