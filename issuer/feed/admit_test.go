package feed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// tcp is the context of a call over mutual TLS by the owner of a certificate
// with these URIs.
func tcp(t *testing.T, uris ...string) context.Context {
	t.Helper()
	leaf := &x509.Certificate{}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		leaf.URIs = append(leaf.URIs, parsed)
	}
	return peer.NewContext(t.Context(), &peer.Peer{
		Addr:     &net.TCPAddr{},
		AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}},
	})
}

func TestOnlyListedClientsMayWatch(t *testing.T) {
	s := newServer(t, newStore(t), nil)
	plain := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{}})
	local := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.UnixAddr{Net: "unix"}})
	for name, row := range map[string]struct {
		ctx    context.Context
		issuer string
		want   codes.Code
	}{
		"listed":            {tcp(t, authz), issuer, codes.OK},
		"on the socket":     {local, issuer, codes.OK},
		"another issuer's":  {tcp(t, authz), issuer + "/", codes.NotFound},
		"not listed":        {tcp(t, "spiffe://test/gateway/edge"), issuer, codes.PermissionDenied},
		"longer id":         {tcp(t, authz+"/x"), issuer, codes.PermissionDenied},
		"two ids":           {tcp(t, authz, authz), issuer, codes.Unauthenticated},
		"no id":             {tcp(t), issuer, codes.Unauthenticated},
		"without TLS":       {plain, issuer, codes.Unauthenticated},
		"without any peer":  {t.Context(), issuer, codes.Unauthenticated},
		"no issuer is said": {tcp(t, authz), "", codes.NotFound},
	} {
		if _, err := s.admit(row.ctx, &revocationv1.WatchRequest{Issuer: row.issuer}); status.Code(err) != row.want {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

func TestNewRefusesAFeedForNobody(t *testing.T) {
	for name, c := range map[string]Config{
		"no issuer":  {Clients: []string{authz}},
		"no clients": {Issuer: issuer},
	} {
		if _, err := New(c, Deps{Store: newStore(t)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
