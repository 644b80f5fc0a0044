// Package ca is a certificate authority for development: a root in a folder,
// and leaf certificates under it for servers (names and addresses) and for
// workloads (one SPIFFE id each).
//
// The certificates have the form that a workload CA will give them later
// (X509-SVID §2 to §4: one URI SAN, no CA bit, digital signature only), so that
// what verifies them need not change. The root's key lies beside its
// certificate, unencrypted: whoever reads it is everybody.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// organization marks what this authority made: only that is renewed.
	organization = "Gatehouse development"
	rootLife     = 10 * 365 * 24 * time.Hour
	// backdate keeps a new certificate valid on machines whose clocks are a
	// little behind.
	backdate = time.Minute
)

// Authority is the root and its key.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	now         func() time.Time
}

// Open loads the authority from dir (ca.crt and ca.key), or makes one there
// where there is none. The folder is made 0700 and the key 0600.
func Open(dir string, now func() time.Time) (*Authority, error) {
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	a, err := load(crt, key)
	if errors.Is(err, fs.ErrNotExist) {
		if a, err = create(now()); err == nil {
			err = a.save(crt, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the development CA in %s: %w", dir, err)
	}
	a.now = now
	if now().After(a.certificate.NotAfter) {
		return nil, fmt.Errorf("the development CA in %s ended on %s: move the folder away, and a new one is made", dir, a.certificate.NotAfter.Format(time.DateOnly))
	}
	return a, nil
}

// Certificate is the root's certificate, for trust stores.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

func create(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the root's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: "Gatehouse development CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the root: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// sign leaves the serial number to the library: 20 random bytes (RFC 5280
// §4.1.2.2).
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// save writes the key first: a certificate is there only when its key is.
func (a *Authority) save(crt, key string) error {
	if err := os.MkdirAll(filepath.Dir(crt), 0o700); err != nil {
		return err
	}
	return writePair(crt, key, a.certificate, a.key)
}

func load(crt, key string) (*Authority, error) {
	certificate, signer, err := readPair(crt, key)
	if err != nil {
		return nil, err
	}
	if !certificate.IsCA {
		return nil, fmt.Errorf("%s is no CA certificate: move it away, and one is made", crt)
	}
	return &Authority{certificate: certificate, key: signer}, nil
}
