package workload

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
)

// rotating is a CA in the process whose roots change.
type rotating struct {
	mu      sync.Mutex
	issuer  *authority
	roots   []*x509.Certificate
	denied  []string
	changed chan struct{}
}

func (r *rotating) IssueTo(ctx context.Context, id string, key crypto.Signer) ([]*x509.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.issuer.IssueTo(ctx, id, key)
}

func (r *rotating) Roots() []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.roots
}

func (r *rotating) Denied() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.denied
}

func (r *rotating) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *rotating) set(issuer *authority, roots ...*x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issuer, r.roots = issuer, roots
	close(r.changed)
	r.changed = make(chan struct{})
}

// A workload beside its CA follows the roots, and gets another certificate at
// once where its own is under none of them any more.
func TestLocalFollowsItsCA(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	ca := &rotating{issuer: old, roots: old.Roots(), changed: make(chan struct{})}
	source := NewLocal(ca, orders, Deps{Logger: logger(t)})
	inBackground(t, source.Run)
	under := func(issuer *authority, roots int) {
		t.Helper()
		await(t, "the certificate and roots", func() error {
			state, _ := source.Current()
			if state == nil || len(state.Roots) != roots || state.Pair.Leaf.CheckSignatureFrom(issuer.cert) != nil {
				return errors.New("not yet")
			}
			return nil
		})
	}
	under(old, 1)
	ca.set(old, old.cert, next.cert)
	under(old, 2)
	ca.set(next, next.cert)
	under(next, 1)

	ca.mu.Lock()
	ca.denied = []string{profile}
	ca.mu.Unlock()
	ca.set(next, next.cert)
	await(t, "the deny list", func() error {
		if !source.Denied().Has(profile) {
			return errors.New("not yet")
		}
		return nil
	})
}
