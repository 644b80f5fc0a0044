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
	l.state = s
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// SetRoots replaces the trust bundle; without a state there is nothing to
// replace.
func (l *Live) SetRoots(roots []*x509.Certificate) {
	current, _ := l.Current()
	same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
	if current != nil && len(roots) > 0 && !slices.EqualFunc(current.Roots, roots, same) {
		l.Set(current.withRoots(roots))
	}
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
