package serve

import (
	"crypto/x509"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// ConnectionAge is how old a server of many short calls lets a connection
	// grow before it asks the peer, politely, for another
	// (keepalive.ServerParameters): it is below afterEnd, so that no call is
	// under way when that comes.
	ConnectionAge = 4 * time.Minute
	// afterEnd is how long a connection may outlive its peer's certificate.
	afterEnd = 5 * time.Minute
)

// Denied are the SPIFFE ids that were revoked: they get no new connection, and
// lose those that they have.
type Denied struct {
	mu          sync.Mutex
	ids         map[string]bool
	connections map[*connection]bool
}

// Denier is a Source that knows who was revoked.
type Denier interface {
	Denied() *Denied
}

// NewDenied denies nobody yet.
func NewDenied() *Denied {
	return &Denied{ids: map[string]bool{}, connections: map[*connection]bool{}}
}

// Has tells whether an id is denied.
func (d *Denied) Has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[id]
}

// Set replaces the list. When it returns, no connection of a denied id is open.
func (d *Denied) Set(ids []string) {
	d.mu.Lock()
	d.ids = map[string]bool{}
	for _, id := range ids {
		d.ids[id] = true
	}
	var over []*connection
	for c := range d.connections {
		if d.ids[c.id] {
			over = append(over, c)
		}
	}
	d.mu.Unlock()
	for _, c := range over {
		c.Close()
	}
}

// add keeps hold of a connection until it closes; false: its peer was denied
// meanwhile.
func (d *Denied) add(c *connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids[c.id] {
		return false
	}
	d.connections[c] = true
	return true
}

func (d *Denied) forget(c *connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.connections, c)
}

// guard is TLS that keeps hold of the connections of known peers.
type guard struct {
	credentials.TransportCredentials
	denied *Denied
}

// Clone implements credentials.TransportCredentials.
func (g *guard) Clone() credentials.TransportCredentials {
	return &guard{TransportCredentials: g.TransportCredentials.Clone(), denied: g.denied}
}

// ServerHandshake implements credentials.TransportCredentials.
func (g *guard) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	leaf := info.(credentials.TLSInfo).State.PeerCertificates[0]
	c := newConnection(conn, leaf, g.denied)
	if !g.denied.add(c) {
		c.Close()
		return nil, nil, net.ErrClosed
	}
	return c, info, nil
}

// connection is one that ends with its peer's identity.
type connection struct {
	net.Conn
	id     string // empty: nobody
	denied *Denied
	end    *time.Timer
}

func newConnection(conn net.Conn, leaf *x509.Certificate, denied *Denied) *connection {
	c := &connection{Conn: conn, denied: denied}
	c.id, _ = SPIFFEID(leaf) // who has none is refused by Caller
	c.end = time.AfterFunc(time.Until(leaf.NotAfter)+afterEnd, func() { conn.Close() })
	return c
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.end.Stop()
	c.denied.forget(c)
	return c.Conn.Close()
}
