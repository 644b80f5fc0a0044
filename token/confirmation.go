package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"fmt"
)

// Confirmation is the key of its holder's that a token is bound to (cnf, RFC
// 7800 §3). Zero: it is bound to none, and whoever bears it may use it. With
// both members, both have to be proven.
type Confirmation struct {
	// KeyThumbprint is jkt: the RFC 7638 thumbprint of the key that signs DPoP
	// proofs (RFC 9449 §6.1).
	KeyThumbprint string
	// CertificateThumbprint is x5t#S256: that of the client's TLS certificate
	// (RFC 8705 §3.1).
	CertificateThumbprint string
}

// IsZero tells that nothing has to be proven.
func (c Confirmation) IsZero() bool { return c == Confirmation{} }

// CertificateThumbprint is x5t#S256 of a certificate (RFC 8705 §3.1).
func CertificateThumbprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// IsThumbprint tells whether text is a SHA-256 in base64url, in its one
// spelling.
func IsThumbprint(text string) bool {
	raw, err := decode(text)
	return err == nil && len(raw) == sha256.Size
}

// sameThumbprint compares in constant time; nothing is the same as none.
func sameThumbprint(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// confirmation reads cnf. A member that we cannot have proven makes it foreign:
// to ignore it would drop a binding that its issuer meant.
func confirmation(s *scanner) (c Confirmation, foreign bool, err error) {
	if s.peek() != '{' {
		return c, true, s.skip()
	}
	err = s.object(func(s *scanner, name string) (err error) {
		switch name {
		case "jkt":
			c.KeyThumbprint, err = thumbprint(s)
		case "x5t#S256":
			c.CertificateThumbprint, err = thumbprint(s)
		default:
			foreign, err = true, s.skip()
		}
		return err
	})
	return c, foreign || c.IsZero(), err
}

func thumbprint(s *scanner) (string, error) {
	text, err := s.text()
	if err == nil && !IsThumbprint(text) {
		err = s.fault(fmt.Sprintf("not a SHA-256 of %d bytes in base64url", sha256.Size))
	}
	return text, err
}
