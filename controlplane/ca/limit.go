package ca

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

const (
	// perWindow is how often one address, or one id, may ask in a window: a
	// machine with a hundred sidecars that all start again.
	perWindow = 200
	window    = 10 * time.Second
	// maxCounted bounds the memory; beyond it nobody new is heard until the
	// window is over.
	maxCounted = 1 << 16
)

// requests counts requests by who sent them.
type requests[K comparable] struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time
	seen  map[K]int
}

// addresses counts by peer address, an IPv6 network of 64 bits counting as one.
type addresses struct{ requests[netip.Prefix] }

func newAddresses(now func() time.Time) *addresses {
	return &addresses{requests[netip.Prefix]{now: now}}
}

// admit tells whether the peer may ask once more.
func (a *addresses) admit(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	network, ok := networkOf(p.Addr)
	return ok && a.count(network)
}

// networkOf is what counts as one address.
func networkOf(peer net.Addr) (netip.Prefix, bool) {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if address.Is4() {
		bits = 32
	}
	network, err := address.Prefix(bits)
	return network, err == nil
}

// count tells whether who sent it may ask once more.
func (r *requests[K]) count(who K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); !now.Before(r.until) {
		r.until, r.seen = now.Add(window), map[K]int{}
	}
	if _, known := r.seen[who]; !known && len(r.seen) >= maxCounted {
		return false
	}
	r.seen[who]++
	return r.seen[who] <= perWindow
}
