package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// intermediate signs what workloads get. It implements Signer.
type intermediate struct {
	certificate *x509.Certificate
	key         crypto.Signer
	root        *x509.Certificate // the one of the bundle that signed it
}

// Sign implements Signer. Nothing outlives the intermediate.
func (i *intermediate) Sign(_ context.Context, template *x509.Certificate, request *x509.CertificateRequest) ([]*x509.Certificate, error) {
	bounded := *template
	bounded.NotAfter = earlier(template.NotAfter, i.certificate.NotAfter)
	leaf, err := create(&bounded, i.certificate, request.PublicKey, i.key)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return []*x509.Certificate{leaf, i.certificate}, nil
}

// halfLife is when the next one is made, so that what the last one signed
// never outlives it.
func (i *intermediate) halfLife() time.Time {
	from, to := i.certificate.NotBefore.Add(backdate), i.certificate.NotAfter
	return from.Add(to.Sub(from) / 2)
}

// newRequest makes a key and a request for an intermediate.
func newRequest() (crypto.Signer, *x509.CertificateRequest, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the intermediate's key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{organization}, CommonName: "Gatehouse intermediate"},
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the intermediate's request: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	return key, request, err
}

func (f folder) makeIntermediate(root *Root, now time.Time, life time.Duration) (*intermediate, error) {
	key, request, err := newRequest()
	if err != nil {
		return nil, err
	}
	certificate, err := root.Sign(request, now, life)
	if err != nil {
		return nil, err
	}
	i := &intermediate{certificate: certificate, key: key, root: root.certificate}
	return i, f.saveIntermediate(i)
}
