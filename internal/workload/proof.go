package workload

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
)

// NewRequest is a PKCS #10 request, in DER, for a certificate of a SPIFFE id
// for a key.
func NewRequest(key crypto.Signer, id string) ([]byte, error) {
	uri, err := url.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("%q is no SPIFFE id: %w", id, err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		return nil, fmt.Errorf("making the request for %s: %w", id, err)
	}
	return csr, nil
}

// Prove is RenewRequest.proof: the old key's signature that ties the old
// certificate to the new request, both in DER.
func Prove(old crypto.Signer, certificate, csr []byte) ([]byte, error) {
	message := renewal(certificate, csr)
	if _, ok := old.Public().(ed25519.PublicKey); ok {
		return old.Sign(rand.Reader, message, crypto.Hash(0))
	}
	digest := sha256.Sum256(message)
	return old.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// CheckProof verifies what Prove made, with the old certificate's key.
func CheckProof(old crypto.PublicKey, certificate, csr, proof []byte) error {
	message := renewal(certificate, csr)
	good := false
	switch key := old.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(key, message, proof)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		good = ecdsa.VerifyASN1(key, digest[:], proof)
	}
	if !good {
		return errors.New("the proof is no signature of the old key over this request")
	}
	return nil
}

// renewal is what the proof signs; the name in front makes it mean nothing
// anywhere else.
func renewal(certificate, csr []byte) []byte {
	message := []byte("gatehouse-renew-v1\x00")
	request, old := sha256.Sum256(csr), sha256.Sum256(certificate)
	message = append(message, request[:]...)
	return append(message, old[:]...)
}
