package workload

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// CA is the workload CA in this process.
type CA interface {
	// IssueTo is a chain for a SPIFFE id and key, the leaf first, without the
	// root.
	IssueTo(ctx context.Context, id string, key crypto.Signer) ([]*x509.Certificate, error)
	// Roots are the trust bundle.
	Roots() []*x509.Certificate
	// Denied are the SPIFFE ids that were revoked.
	Denied() []string
	// Changed is closed when any of these is another.
	Changed() <-chan struct{}
}

// NewLocal is the source of a workload whose CA is in this process. Nothing is
// written down: the next start issues anew.
func NewLocal(ca CA, id string, deps Deps) *Source {
	deps.complete()
	s := newSource(func(ctx context.Context, _ *State) (*State, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		chain, err := ca.IssueTo(ctx, id, key)
		if err != nil {
			return nil, err
		}
		return NewState(chain, key, ca.Roots())
	}, deps)
	s.run = func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return s.renewer.Run(ctx) })
		group.Go(func() error { return follow(ctx, ca, s) })
		return group.Wait()
	}
	return s
}

// follow keeps the trust bundle, and who was revoked, as the CA has them.
func follow(ctx context.Context, ca CA, s *Source) error {
	for {
		changed := ca.Changed()
		s.denied.Set(ca.Denied())
		if err := s.Trust(ca.Roots()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
