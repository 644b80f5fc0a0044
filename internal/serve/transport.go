package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrNoIdentity is what a Source says until its first certificate is there.
var ErrNoIdentity = errors.New("there is no certificate yet: the log says what its source waits for")

// ServerCredentials are mutual TLS 1.3 for a TCP address, requiring a client
// certificate under the source's roots and of its trust domain, and none for a
// Unix socket. Where the source knows who was revoked, it is a Denier, those get
// no connection and lose what they have.
func ServerCredentials(address string, source Source) (credentials.TransportCredentials, error) {
	denied := NewDenied()
	if d, ok := source.(Denier); ok {
		denied = d.Denied()
	}
	return guarded(address, source, denied)
}

func guarded(address string, source Source, denied *Denied) (credentials.TransportCredentials, error) {
	if _, ok := UnixPath(address); ok {
		return insecure.NewCredentials(), nil
	}
	if err := usable(source); err != nil {
		return nil, err
	}
	inner := credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// Asked at each handshake, for the certificate and the roots change.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverConfig(source, denied) },
	})
	return &guard{TransportCredentials: inner, denied: denied}, nil
}

func serverConfig(source Source, denied *Denied) (*tls.Config, error) {
	pair, err := source.KeyPair()
	if err != nil {
		return nil, err
	}
	own, err := SPIFFEID(pair.Leaf)
	if err != nil {
		return nil, fmt.Errorf("this part's own certificate: %w", err)
	}
	roots, err := source.Roots()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*pair},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              roots,
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return admit(state.PeerCertificates[0], TrustDomain(own), denied)
		},
	}, nil
}

// admit refuses what the chain alone would let through: another trust domain
// under the same root, and who was revoked. A certificate without an identity
// passes here, and Caller finds that nobody calls.
func admit(leaf *x509.Certificate, trustDomain string, denied *Denied) error {
	id, err := SPIFFEID(leaf)
	if err != nil {
		return nil
	}
	if TrustDomain(id) != trustDomain {
		return fmt.Errorf("%s is not of the trust domain %s", id, trustDomain)
	}
	if denied.Has(id) {
		return fmt.Errorf("%s was revoked", id)
	}
	return nil
}

// DialCredentials are mutual TLS 1.3 for a TCP address, where the server must
// have exactly the SPIFFE id peer, and none for a Unix socket.
func DialCredentials(address string, source Source, peer string) (credentials.TransportCredentials, error) {
	if _, ok := UnixPath(address); ok {
		return insecure.NewCredentials(), nil
	}
	if err := usable(source); err != nil {
		return nil, err
	}
	return credentials.NewTLS(ClientTLS(source, peer, time.Now)), nil
}

// ClientTLS is how to reach a server with exactly the SPIFFE id peer, under the
// source's roots and with its certificate.
func ClientTLS(source Source, peer string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return source.KeyPair() },
		SessionTicketsDisabled: true,
		// A SPIFFE certificate names no host: the chain and the one URI SAN are
		// verified here instead (X509-SVID §5.2).
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := source.Roots()
			if err != nil {
				return err
			}
			return verifyPeer(state, roots, peer, now())
		},
	}
}

// usable reports files that will not do before anything starts; a source that
// waits for its first certificate is fine.
func usable(source Source) error {
	_, pairErr := source.KeyPair()
	_, rootsErr := source.Roots()
	for _, err := range []error{pairErr, rootsErr} {
		if err != nil && !errors.Is(err, ErrNoIdentity) {
			return err
		}
	}
	return nil
}

func verifyPeer(state tls.ConnectionState, pool *x509.CertPool, peer string, now time.Time) error {
	chain := state.PeerCertificates
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("verifying the server's certificate: %w", err)
	}
	id, err := SPIFFEID(chain[0])
	if err != nil {
		return err
	}
	if id != peer {
		return fmt.Errorf("the server is %q, not %q", id, peer)
	}
	return nil
}
