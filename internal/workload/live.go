package workload

import (
	"crypto/tls"
	"crypto/x509"
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
