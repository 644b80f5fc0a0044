package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/whole"
)

// fileLife is how long a certificate in a file lives, where its intermediate
// does; it is renewed in its last third.
const fileLife = 90 * 24 * time.Hour

// Subject is whom a certificate in a file names: a server by hosts, or a
// workload by its SPIFFE id.
type Subject struct {
	// Hosts are DNS names and IP addresses; the leaf is for TLS servers.
	Hosts []string
	// SPIFFE is the id of a workload; the leaf is for both ends of mutual TLS.
	SPIFFE string
}

// Keep makes sure that the two files hold a certificate of this authority for
// the subject, with its chain, and its key (0600). It makes what is missing,
// renews what ends soon, names another subject or leads to another root, and
// leaves alone a certificate that somebody else issued. It tells whether it
// wrote.
func (a *Authority) Keep(crt, key string, subject Subject) (renewed bool, err error) {
	template, err := a.template(subject)
	if err != nil {
		return false, err
	}
	chain, err := readCertificates(crt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case !a.ours(chain):
		return false, nil
	default:
		// A pair that does not match was half written when the power went.
		if _, err := tls.LoadX509KeyPair(crt, key); err == nil && a.good(chain, template) {
			return false, nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(crt), 0o700); err != nil {
		return false, fmt.Errorf("making the folder of %s: %w", crt, err)
	}
	return true, a.writeLeaf(crt, key, template)
}

// writeLeaf puts the key in place first, then the certificate, each whole.
func (a *Authority) writeLeaf(crt, key string, template *x509.Certificate) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", crt, err)
	}
	chain, err := a.issueTo(context.Background(), template, private)
	if err != nil {
		return fmt.Errorf("issuing %s: %w", crt, err)
	}
	return errors.Join(writeKey(key, private), whole.WriteFile(crt, encodeCertificates(chain), 0o644))
}

// ours tells whether this authority or one before it issued a chain.
func (a *Authority) ours(chain []*x509.Certificate) bool {
	for _, name := range chain[0].Issuer.Organization {
		if strings.HasPrefix(name, organization) {
			return true
		}
	}
	return verifyChain(chain, a.Roots(), chain[0].NotBefore) == nil
}

// good tells whether a chain leads to the root that issues, names what it
// should, and has more than a third of its life left.
func (a *Authority) good(chain []*x509.Certificate, want *x509.Certificate) bool {
	leaf := chain[0]
	roots := a.Roots()
	if issuer := a.current.Load().issuer; issuer != nil {
		roots = []*x509.Certificate{issuer}
	}
	return verifyChain(chain, roots, a.now()) == nil && sameNames(leaf, want) &&
		a.now().Before(leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore)/3))
}

func (a *Authority) template(subject Subject) (*x509.Certificate, error) {
	if subject.SPIFFE != "" {
		id, err := ParseID(subject.SPIFFE)
		if err == nil && len(subject.Hosts) > 0 {
			err = fmt.Errorf("a workload has no hosts beside its SPIFFE id %s", id)
		}
		return a.svid(id, fileLife), err
	}
	template := a.leaf(fileLife)
	for _, host := range subject.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template, nil
}

// svid is the form of X509-SVID §2 to §4.
func (a *Authority) svid(id ID, life time.Duration) *x509.Certificate {
	template := a.leaf(life)
	template.URIs = []*url.URL{id.url()}
	template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	return template
}

func (a *Authority) leaf(life time.Duration) *x509.Certificate {
	now := a.now()
	return &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{organization}},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Said outright: a leaf signs no certificates (X509-SVID §4.1).
		BasicConstraintsValid: true,
	}
}
