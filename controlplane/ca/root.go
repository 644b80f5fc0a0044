package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"
)

const rootLife = 10 * 365 * 24 * time.Hour

// Root is a root with its key.
type Root struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// Certificate is the root's certificate.
func (r *Root) Certificate() *x509.Certificate { return r.certificate }

// newRoot makes a root that may have one CA below it (RFC 5280 §4.2.1.9).
func newRoot(now time.Time) (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the root's key: %w", err)
	}
	template := &x509.Certificate{
		// The day tells roots apart that follow each other.
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: "Gatehouse root " + now.UTC().Format(time.DateTime)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
	certificate, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the root: %w", err)
	}
	return &Root{certificate: certificate, key: key}, nil
}

// create leaves the serial number to the library: 20 random bytes (RFC 5280
// §4.1.2.2).
func create(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// checkRoot refuses what cannot be a root of this authority.
func checkRoot(c *x509.Certificate, path string) error {
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || c.CheckSignatureFrom(c) != nil:
		return fmt.Errorf("%s holds a certificate that is no root: move it away, and one is made", path)
	case c.MaxPathLenZero:
		return fmt.Errorf("%s holds a root that may have no CA below it, as an earlier gatehouse made them: move the folder away, and a new one is made", path)
	}
	return nil
}

// Sign signs an intermediate: a request that `ca intermediate request` made.
func (r *Root) Sign(request *x509.CertificateRequest, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its own key: %w", err)
	}
	if err := checkKey(request.PublicKey); err != nil {
		return nil, err
	}
	if !slices.Equal(request.Subject.Organization, []string{organization}) || len(request.Extensions) > 0 {
		return nil, fmt.Errorf("the request for %s is not one of `gatehouse ca intermediate request`: make it with that", request.Subject)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: "Gatehouse intermediate " + now.UTC().Format(time.DateTime)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              earlier(now.Add(life), r.certificate.NotAfter),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	certificate, err := create(template, r.certificate, request.PublicKey, r.key)
	if err != nil {
		return nil, fmt.Errorf("signing the intermediate: %w", err)
	}
	return certificate, certificate.CheckSignatureFrom(r.certificate)
}

func earlier(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}
