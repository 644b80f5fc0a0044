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
	// perWindow is how often one address may ask in a window: a machine with a
	// hundred sidecars that all start again.
	perWindow = 200
	window    = 10 * time.Second
	// maxAddresses bounds the memory; beyond it nobody new is heard until the
	// window is over.
	maxAddresses = 1 << 16
)

// addresses counts requests per peer address, an IPv6 network of 64 bits
// counting as one.
type addresses struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time
	seen  map[netip.Prefix]int
}

func newAddresses(now func() time.Time) *addresses { return &addresses{now: now} }

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

func (a *addresses) count(network netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); !now.Before(a.until) {
		a.until, a.seen = now.Add(window), map[netip.Prefix]int{}
	}
	if _, known := a.seen[network]; !known && len(a.seen) >= maxAddresses {
		return false
	}
	a.seen[network]++
	return a.seen[network] <= perWindow
}
