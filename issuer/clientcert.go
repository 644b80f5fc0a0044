package issuer

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// certificateHeader is where Envoy says which certificate the client showed
// (x-forwarded-client-cert). The gateway takes it off every request and writes
// it on those of the host for mutual TLS alone; it is believed only from there.
const certificateHeader = "X-Forwarded-Client-Cert"

// maxChain bounds the certificates of a client's chain.
const maxChain = 10

// checkCertificate tells whether the certificate of a request's connection
// proves a client (RFC 8705 §2). That the client has its private key, Envoy has
// seen in the handshake.
func (s *server) checkCertificate(r *http.Request, client store.Client) error {
	chain, err := s.peerCertificates(r)
	if err != nil {
		return badClient(err)
	}
	now := s.now()
	if leaf := chain[0]; now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return badClient(fmt.Errorf("the certificate of client %q is out of date", client.ID))
	}
	if client.Proof.Method == methodSelfSigned { // §2.2
		if !slices.Contains(client.Proof.Thumbprints, token.CertificateThumbprint(chain[0])) {
			return badClient(fmt.Errorf("the certificate is not registered for client %q", client.ID))
		}
		return nil
	}
	if err := s.verifyChain(chain); err != nil { // §2.1
		return badClient(fmt.Errorf("verifying the certificate of client %q: %w", client.ID, err))
	}
	if !names(chain[0], client.Proof.Name) {
		return badClient(fmt.Errorf("the certificate does not name client %q as it is registered", client.ID))
	}
	return nil
}

// verifyChain verifies a client's certificate against
// issuer.client_authorities.
func (s *server) verifyChain(chain []*x509.Certificate) error {
	if s.authorities == nil {
		return errors.New("issuer.client_authorities is not set")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: s.authorities, Intermediates: intermediates, CurrentTime: s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// names tells whether a certificate has the one name that is registered (RFC
// 8705 §2.1.2). Names are compared exactly; no name matches none.
func names(c *x509.Certificate, n store.CertificateName) bool {
	switch {
	case n.SubjectDN != "":
		return subjectOf(c) == n.SubjectDN
	case n.DNS != "":
		return slices.Contains(c.DNSNames, n.DNS)
	case n.Email != "":
		return slices.Contains(c.EmailAddresses, n.Email)
	case n.URI != "":
		return slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.String() == n.URI })
	case n.IP != "":
		for _, ip := range c.IPAddresses {
			if ip.String() == n.IP {
				return true
			}
		}
	}
	return false
}

// subjectOf is a certificate's subject in the form of RFC 4514, from its bytes:
// pkix.Name reorders attributes.
func subjectOf(c *x509.Certificate) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &sequence); err != nil || len(rest) > 0 {
		return ""
	}
	return sequence.String()
}

// certificateThumbprint is x5t#S256 of the certificate of a request's
// connection; empty: it has none.
func (s *server) certificateThumbprint(r *http.Request) string {
	chain, err := s.peerCertificates(r)
	if err != nil {
		return ""
	}
	return token.CertificateThumbprint(chain[0])
}

// peerCertificates are the certificate of a request's connection, and those
// that came with it.
func (s *server) peerCertificates(r *http.Request) ([]*x509.Certificate, error) {
	headers := r.Header[certificateHeader]
	if s.config.MTLSURL == "" || len(headers) == 0 {
		return nil, errors.New("the connection has no client certificate")
	}
	if len(headers) > 1 {
		return nil, errors.New("the gateway forwarded more than one certificate header")
	}
	encoded, err := forwardedChain(headers[0])
	if err != nil {
		return nil, fmt.Errorf("reading the forwarded client certificate: %w", err)
	}
	return parseChain(encoded)
}

// forwardedChain is the value of Chain in x-forwarded-client-cert: one element
// of key=value pairs with semicolons between them, the values quoted where need
// be. Envoy overwrites the header, so a second element would not be its own.
func forwardedChain(header string) (string, error) {
	for header != "" {
		key, rest, found := strings.Cut(header, "=")
		if !found {
			return "", errors.New("a pair has no value")
		}
		value := rest
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			end := strings.IndexByte(quoted, '"')
			if end < 0 || strings.Contains(quoted[:end], `\`) {
				return "", errors.New("a value does not end, or has an escape")
			}
			value, rest = quoted[:end], quoted[end+1:]
		} else if end := strings.IndexAny(rest, ";,"); end >= 0 {
			value, rest = rest[:end], rest[end:]
		} else {
			rest = ""
		}
		if strings.EqualFold(key, "Chain") && !strings.Contains(rest, ",") {
			return value, nil
		}
		if header, found = strings.CutPrefix(rest, ";"); !found && rest != "" {
			return "", errors.New("there is more than one element")
		}
	}
	return "", errors.New("it has no Chain")
}

func parseChain(encoded string) (chain []*x509.Certificate, err error) {
	text, err := url.QueryUnescape(strings.ReplaceAll(encoded, "+", "%2B"))
	if err != nil {
		return nil, fmt.Errorf("decoding the forwarded client certificate: %w", err)
	}
	for rest := []byte(text); len(rest) > 0 && len(chain) < maxChain; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing the forwarded client certificate: %w", err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("the forwarded client certificate is no PEM")
	}
	return chain, nil
}

// loadAuthorities reads a file of PEM certificates; nil: there is none.
func loadAuthorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("it holds no PEM certificate")
	}
	return pool, nil
}
