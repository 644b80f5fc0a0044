package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// readPair reads a certificate and its key; the error wraps fs.ErrNotExist
// where either is missing.
func readPair(crt, key string) (*x509.Certificate, crypto.Signer, error) {
	_, crtErr := os.Stat(crt)
	_, keyErr := os.Stat(key)
	if err := errors.Join(crtErr, keyErr); err != nil {
		return nil, nil, err
	}
	pair, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s and %s: %w", crt, key, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s cannot sign", key)
	}
	return pair.Leaf, signer, nil
}

func readCertificate(crt string) (*x509.Certificate, error) {
	data, err := os.ReadFile(crt)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("reading %s: it holds no PEM certificate: move it away, and one is made", crt)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", crt, err)
	}
	return leaf, nil
}

// writePair puts the key in place first, then the certificate, each whole.
func writePair(crt, key string, certificate *x509.Certificate, signer crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return fmt.Errorf("encoding the key of %s: %w", crt, err)
	}
	return errors.Join(
		writeFile(key, "PRIVATE KEY", der, 0o600),
		writeFile(crt, "CERTIFICATE", certificate.Raw, 0o644),
	)
}

func writeFile(path, kind string, der []byte, mode os.FileMode) error {
	partial := path + ".partial"
	// A leftover of an earlier try may have another mode.
	os.Remove(partial)
	if err := os.WriteFile(partial, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
