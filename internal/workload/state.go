package workload

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/internal/serve"
)

// State is what a workload is and whom it trusts at one moment. It never
// changes.
type State struct {
	// ID is the SPIFFE id.
	ID string
	// Pair is the certificate chain, the leaf first and parsed, with its key.
	Pair *tls.Certificate
	// Roots are the authorities of the trust domain.
	Roots []*x509.Certificate

	pool *x509.CertPool
}

// NewState takes a chain with its key, and the roots that verify others. The
// chain must lead to one of the roots, or nobody would take it; it may have
// ended, for whoever renews needs it then.
func NewState(chain []*x509.Certificate, key crypto.Signer, roots []*x509.Certificate) (*State, error) {
	if len(chain) == 0 || len(roots) == 0 {
		return nil, fmt.Errorf("an identity of %d certificates and %d roots is none", len(chain), len(roots))
	}
	id, err := serve.SPIFFEID(chain[0])
	if err != nil {
		return nil, err
	}
	public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the key is not the certificate's")
	}
	s := &State{ID: id, Pair: &tls.Certificate{PrivateKey: key, Leaf: chain[0]}, Roots: roots, pool: x509.NewCertPool()}
	for _, c := range chain {
		s.Pair.Certificate = append(s.Pair.Certificate, c.Raw)
	}
	for _, r := range roots {
		s.pool.AddCert(r)
	}
	return s, s.verify()
}

// withRoots is the same certificate with other roots, even where the
// certificate is under none of them: then it is time for another.
func (s *State) withRoots(roots []*x509.Certificate) *State {
	next := &State{ID: s.ID, Pair: s.Pair, Roots: roots, pool: x509.NewCertPool()}
	for _, r := range roots {
		next.pool.AddCert(r)
	}
	return next
}

// verify is at the last moment of the chain: whether it is over is another
// question.
func (s *State) verify() error {
	intermediates, last := x509.NewCertPool(), s.Pair.Leaf.NotAfter
	for _, der := range s.Pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("reading the chain of %s: %w", s.ID, err)
		}
		intermediates.AddCert(c)
		if c.NotAfter.Before(last) {
			last = c.NotAfter
		}
	}
	_, err := s.Pair.Leaf.Verify(x509.VerifyOptions{
		Roots: s.pool, Intermediates: intermediates, CurrentTime: last,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("the certificate of %s is under none of the roots: %w", s.ID, err)
	}
	return nil
}

// signer is the private key.
func (s *State) signer() crypto.Signer { return s.Pair.PrivateKey.(crypto.Signer) }

// certificatePEM is the chain for Envoy.
func (s *State) certificatePEM() []byte {
	var out bytes.Buffer
	for _, der := range s.Pair.Certificate {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return out.Bytes()
}

func (s *State) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.Pair.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of %s: %w", s.ID, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (s *State) rootsPEM() []byte {
	var out bytes.Buffer
	for _, r := range s.Roots {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: r.Raw})
	}
	return out.Bytes()
}
