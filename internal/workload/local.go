package workload

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
)

// CA is the workload CA in this process.
type CA interface {
	// IssueTo is a chain for a SPIFFE id and key, the leaf first, without the
	// root.
	IssueTo(ctx context.Context, id string, key crypto.Signer) ([]*x509.Certificate, error)
	// Roots are the trust bundle.
	Roots() []*x509.Certificate
}

// NewLocal is the source of a workload whose CA is in this process. Nothing is
// written down: the next start issues anew.
func NewLocal(ca CA, id string, deps Deps) *Source {
	deps.complete()
	return newSource(func(ctx context.Context, _ *State) (*State, error) {
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
}
