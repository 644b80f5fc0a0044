package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// maxRequest bounds a PKCS #10 request in DER; one for a long id has 2.5 KiB.
const maxRequest = 4096

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// parseRequest checks a request for an id: it asks for that id and nothing
// else. Whatever else it asked for would not be issued, but who asks for more
// than it should is refused, so that its owner hears of it.
func parseRequest(der []byte, id ID) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("the CSR has %d bytes, more than %d", len(der), maxRequest)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the CSR cannot be read: %w", err)
	}
	if err := checkKey(request.PublicKey); err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the CSR is not signed by its own key: %w", err)
	}
	if n := len(request.DNSNames) + len(request.IPAddresses) + len(request.EmailAddresses); n > 0 || len(request.URIs) != 1 {
		return nil, fmt.Errorf("the CSR has %d URI SANs and %d others, not one SPIFFE id alone", len(request.URIs), n)
	}
	if request.URIs[0].String() != id.String() {
		return nil, fmt.Errorf("the CSR is for %.100q, not %s", request.URIs[0], id)
	}
	return request, checkExtensions(request, id)
}

// checkExtensions lets the one SAN pass, which is compared as it was encoded:
// names of kinds that the library does not parse must not hide in it.
func checkExtensions(request *x509.CertificateRequest, id ID) error {
	general := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id.String())}
	want, err := asn1.Marshal([]asn1.RawValue{general})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", id, err)
	}
	for _, e := range request.Extensions {
		if !e.Id.Equal(subjectAltName) {
			return fmt.Errorf("the CSR asks for extension %s: only the SAN may be asked for", e.Id)
		}
		if string(e.Value) != string(want) {
			return errors.New("the CSR's SAN has other names beside the SPIFFE id")
		}
	}
	return nil
}

// checkKey takes keys of one strength and of two kinds that everybody speaks.
func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("the key is on curve %s, not P-256", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	default:
		return fmt.Errorf("the key is a %T: use ECDSA P-256 or Ed25519", public)
	}
}

// requestFor makes the request for what template says, for a key of this
// process.
func requestFor(template *x509.Certificate, key crypto.Signer) (*x509.CertificateRequest, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: template.DNSNames, IPAddresses: template.IPAddresses, URIs: template.URIs,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return x509.ParseCertificateRequest(der)
}
