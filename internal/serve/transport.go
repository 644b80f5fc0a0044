package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrNoIdentity is what a Source says until its first certificate is there.
var ErrNoIdentity = errors.New("there is no certificate yet: the log says what its source waits for")

// ServerCredentials are mutual TLS 1.3 for a TCP address, requiring a client
// certificate under the source's roots and of its trust domain, and none for a
// Unix socket.
func ServerCredentials(address string, source Source) (credentials.TransportCredentials, error) {
	if _, ok := UnixPath(address); ok {
		return insecure.NewCredentials(), nil
	}
	if err := usable(source); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// Asked at each handshake, for the certificate and the roots change.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverConfig(source) },
	}), nil
}

func serverConfig(source Source) (*tls.Config, error) {
	pair, err := source.KeyPair()
	if err != nil {
		return nil, err
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
	}, nil
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
	return credentials.NewTLS(&tls.Config{
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
			return verifyPeer(state, roots, peer)
		},
	}), nil
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

func verifyPeer(state tls.ConnectionState, pool *x509.CertPool, peer string) error {
	chain := state.PeerCertificates
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
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
