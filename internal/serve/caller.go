package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Caller is the SPIFFE id of the gRPC peer: the one URI SAN of its verified
// certificate, or local for a peer on a Unix socket, whose 0600 mode vouches
// for it.
func Caller(ctx context.Context, local string) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("the call has no peer")
	}
	switch info := p.AuthInfo.(type) {
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) == 0 {
			return "", errors.New("the peer's certificate is not verified")
		}
		return SPIFFEID(info.State.VerifiedChains[0][0])
	default:
		if p.Addr != nil && p.Addr.Network() == "unix" && local != "" {
			return local, nil
		}
		return "", errors.New("the peer has no identity")
	}
}

// SPIFFEID is a certificate's SPIFFE id. A certificate has exactly one URI SAN
// (X509-SVID §2), else it identifies nobody.
func SPIFFEID(leaf *x509.Certificate) (string, error) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" {
		return "", fmt.Errorf("the certificate has %d URI SANs, not one SPIFFE id", len(leaf.URIs))
	}
	return leaf.URIs[0].String(), nil
}

// TrustDomain is the trust domain of a SPIFFE id.
func TrustDomain(id string) string {
	domain, _, _ := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/")
	return domain
}
