package workload

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Live is an identity that changes while it is used. Its zero value has none
// yet. It is a serve.Source.
type Live struct {
	mu      sync.Mutex
	state   *State
	changed chan struct{} // closed at the next change; nil: nobody asked
	pushes  int           // how often SetRoots put another bundle in place
}

// Current is the present state, nil until there is one, and a channel that is
// closed once there is another.
func (l *Live) Current() (*State, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.state, l.changed
}

// Set makes a state the present one.
func (l *Live) Set(s *State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(s)
}

// set is Set for those who hold the lock.
func (l *Live) set(s *State) {
	l.state = s
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// SetRoots replaces the trust bundle, and tells whether it was another; without
// a state there is nothing to replace.
func (l *Live) SetRoots(roots []*x509.Certificate) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
	if l.state == nil || len(roots) == 0 || slices.EqualFunc(l.state.Roots, roots, same) {
		return false
	}
	l.pushes++
	l.set(l.state.withRoots(roots))
	return true
}

// renewing is the number of bundles pushed so far, for renewed.
func (l *Live) renewing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pushes
}

// renewed makes the answer to a renewal the present state. A bundle that was
// pushed since the renewal began may be newer than the answer's, and others
// count on it, so it stays: kept, else nil. Where the new certificate is under
// none of its roots the answer was the newer one.
func (l *Live) renewed(next *State, began int) (kept []*x509.Certificate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pushes != began {
		if pushed := next.withRoots(l.state.Roots); pushed.verify() == nil {
			next, kept = pushed, pushed.Roots
		}
	}
	l.set(next)
	return kept
}

// KeyPair implements serve.Source.
func (l *Live) KeyPair() (*tls.Certificate, error) {
	s, _ := l.Current()
	if s == nil {
		return nil, serve.ErrNoIdentity
	}
	return s.Pair, nil
}

// Roots implements serve.Source.
func (l *Live) Roots() (*x509.CertPool, error) {
	s, _ := l.Current()
	if s == nil {
		return nil, serve.ErrNoIdentity
	}
	return s.pool, nil
}
