package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"
)

// verifyIssued verifies what a signer returned as those who meet it will, and
// that it says what the template does and nothing more. The signer may be
// somebody else's program, and our own may be wrong.
func verifyIssued(chain []*x509.Certificate, template *x509.Certificate, public crypto.PublicKey, roots []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate")
	}
	leaf := chain[0]
	switch {
	case !samePublic(public, leaf.PublicKey):
		return errors.New("it is for another key")
	case leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature:
		// X509-SVID §4.1, §4.3.
		return fmt.Errorf("it may do more than sign (CA %v, key usage %d)", leaf.IsCA, leaf.KeyUsage)
	case !sameNames(leaf, template):
		return fmt.Errorf("it names %v %v %v %v", leaf.URIs, leaf.DNSNames, leaf.IPAddresses, leaf.EmailAddresses)
	case !sameUsages(leaf, template):
		return fmt.Errorf("its extended usages are %v, not %v", leaf.ExtKeyUsage, template.ExtKeyUsage)
	case leaf.NotAfter.After(template.NotAfter.Add(time.Second)):
		return fmt.Errorf("it lives until %s, longer than %s", leaf.NotAfter, template.NotAfter)
	case leaf.SerialNumber.BitLen() < 64:
		return errors.New("its serial number could be guessed")
	}
	return verifyChain(chain, roots, now)
}

func verifyChain(chain, roots []*x509.Certificate, now time.Time) error {
	trusted, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range roots {
		trusted.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: trusted, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func sameNames(x, y *x509.Certificate) bool {
	return slices.Equal(x.DNSNames, y.DNSNames) &&
		slices.Equal(x.EmailAddresses, y.EmailAddresses) &&
		slices.EqualFunc(x.IPAddresses, y.IPAddresses, net.IP.Equal) &&
		slices.EqualFunc(x.URIs, y.URIs, func(a, b *url.URL) bool { return a.String() == b.String() })
}

func sameUsages(x, y *x509.Certificate) bool {
	has, want := slices.Clone(x.ExtKeyUsage), slices.Clone(y.ExtKeyUsage)
	slices.Sort(has)
	slices.Sort(want)
	return len(x.UnknownExtKeyUsage) == 0 && slices.Equal(has, want)
}

// rootOf is the root of the bundle that a chain leads to.
func (a *Authority) rootOf(chain []*x509.Certificate) (*x509.Certificate, error) {
	last := chain[len(chain)-1]
	for _, root := range a.Roots() {
		if last.CheckSignatureFrom(root) == nil {
			return root, nil
		}
	}
	return nil, errors.New("the chain leads to no root of the bundle")
}
