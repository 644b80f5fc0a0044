package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// leafLife is how long a leaf lives; it is renewed in its last third.
const leafLife = 90 * 24 * time.Hour

// Subject is whom a leaf certificate names: a server by hosts, or a workload by
// its SPIFFE id.
type Subject struct {
	// Hosts are DNS names and IP addresses; the leaf is for TLS servers.
	Hosts []string
	// SPIFFE is the id of a workload; the leaf is for both ends of mutual TLS.
	SPIFFE string
}

// Keep makes sure that the two files hold a certificate of this authority for
// the subject, and its key (0600). It makes what is missing, renews what ends
// soon or names another subject, and leaves alone a certificate that somebody
// else issued. It tells whether it wrote.
func (a *Authority) Keep(crt, key string, subject Subject) (renewed bool, err error) {
	template, err := a.template(subject)
	if err != nil {
		return false, err
	}
	present, err := readCertificate(crt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case !slices.Equal(present.Issuer.Organization, []string{organization}):
		return false, nil
	default:
		// A pair that does not match was half written when the power went.
		if _, _, err := readPair(crt, key); err == nil && a.good(present, template) {
			return false, nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(crt), 0o700); err != nil {
		return false, fmt.Errorf("making the folder of %s: %w", crt, err)
	}
	return true, a.issue(crt, key, template)
}

func (a *Authority) issue(crt, key string, template *x509.Certificate) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", crt, err)
	}
	leaf, err := sign(template, a.certificate, private.Public(), a.key)
	if err != nil {
		return fmt.Errorf("signing %s: %w", crt, err)
	}
	return writePair(crt, key, leaf, private)
}

// good tells whether a leaf is ours, names what it should, and still has more
// than a third of its life.
func (a *Authority) good(leaf, want *x509.Certificate) bool {
	return leaf.CheckSignatureFrom(a.certificate) == nil &&
		a.now().Before(leaf.NotAfter.Add(-leafLife/3)) &&
		slices.Equal(leaf.DNSNames, want.DNSNames) &&
		slices.EqualFunc(leaf.IPAddresses, want.IPAddresses, net.IP.Equal) &&
		slices.EqualFunc(leaf.URIs, want.URIs, func(x, y *url.URL) bool { return x.String() == y.String() })
}

func (a *Authority) template(subject Subject) (*x509.Certificate, error) {
	now := a.now()
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{organization}},
		NotBefore:   now.Add(-backdate),
		NotAfter:    earlier(now.Add(leafLife), a.certificate.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range subject.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if subject.SPIFFE == "" {
		return template, nil
	}
	id, err := url.Parse(subject.SPIFFE)
	if err != nil || id.Scheme != "spiffe" || id.Host == "" || len(subject.Hosts) > 0 {
		return nil, fmt.Errorf("%q with %d hosts is not one SPIFFE id", subject.SPIFFE, len(subject.Hosts))
	}
	template.URIs = []*url.URL{id}
	template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	return template, nil
}

func earlier(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}
