package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Source is where a part's own certificate comes from, and the authorities
// that its peers are verified against. It is asked at each handshake, so that
// what was renewed or replaced counts at once.
type Source interface {
	// KeyPair is the part's certificate chain with its key.
	KeyPair() (*tls.Certificate, error)
	// Roots are the authorities of the trust domain.
	Roots() (*x509.CertPool, error)
}

// Identity is a part's own certificate for mutual TLS with other parts. Empty:
// the part speaks over Unix sockets only. It is a Source that reads its files.
type Identity struct {
	// The PEM certificate chain whose URI SAN is the part's SPIFFE id.
	Certificate conf.Path `yaml:"certificate"`
	// The PEM private key of the certificate; keep it 0600.
	Key conf.Path `yaml:"key"`
	// The PEM certificates of the authorities that peers are verified against.
	CA conf.Path `yaml:"ca"`
}

// Set tells whether the identity is configured.
func (id Identity) Set() bool { return id != Identity{} }

// Validate reports keys that are missing beside others that are there.
func (id Identity) Validate() (vs conf.Violations) {
	if !id.Set() {
		return nil
	}
	for key, value := range map[string]conf.Path{"certificate": id.Certificate, "key": id.Key, "ca": id.CA} {
		if value == "" {
			vs.Add(key, nil, "is missing", "an identity needs certificate, key and ca")
		}
	}
	return vs
}

// KeyPair implements Source.
func (id Identity) KeyPair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(string(id.Certificate), string(id.Key))
	if err != nil {
		return nil, fmt.Errorf("loading identity.certificate %q: %w", id.Certificate, err)
	}
	return &pair, nil
}

// Roots implements Source.
func (id Identity) Roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(string(id.CA))
	if err != nil {
		return nil, fmt.Errorf("loading identity.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("loading identity.ca %q: it holds no PEM certificate", id.CA)
	}
	return pool, nil
}
