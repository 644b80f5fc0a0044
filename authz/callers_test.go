package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// callOf is a call that has a context and nothing else.
type callOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s callOf) Context() context.Context { return s.ctx }

func TestCallers(t *testing.T) {
	w := newWorld(t)
	w.start()
	over := func(uris ...string) context.Context {
		leaf := &x509.Certificate{}
		for _, uri := range uris {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			leaf.URIs = append(leaf.URIs, u)
		}
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{}, AuthInfo: credentials.TLSInfo{
			State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}},
		}})
	}
	handled := func(ctx context.Context) bool {
		called := false
		_, err := w.server.intercept(ctx, nil, nil, func(context.Context, any) (any, error) { called = true; return nil, nil })
		return called && err == nil
	}
	watched := func(ctx context.Context) bool {
		called := false
		err := w.server.interceptStream(nil, callOf{ctx: ctx}, nil, func(any, grpc.ServerStream) error { called = true; return nil })
		return called && err == nil
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
		want bool
	}{
		{"the Unix socket", localContext(), true},
		{"the edge over mTLS", over(testNode), true},
		{"another gateway", over("spiffe://gatehouse.local/gateway/inner"), true},
		{"a service's sidecar", over("spiffe://gatehouse.local/service/orders"), true},
		{"a service without a name", over("spiffe://gatehouse.local/service/"), false},
		{"a service of another trust domain", over("spiffe://evil.local/service/orders"), false},
		{"an authorizer", over("spiffe://gatehouse.local/authz"), false},
		{"the issuer", over("spiffe://gatehouse.local/issuer"), false},
		{"another trust domain", over("spiffe://evil.local/gateway/edge"), false},
		{"a longer trust domain", over("spiffe://gatehouse.local.evil/gateway/edge"), false},
		{"no name", over("spiffe://gatehouse.local/gateway/"), false},
		{"two identities", over(testNode, "spiffe://gatehouse.local/issuer"), false},
		{"no identity", over(), false},
		{"plain TCP", peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{}}), false},
		{"nobody", t.Context(), false},
	} {
		if got := handled(c.ctx); got != c.want {
			t.Errorf("%s: handled %t", c.name, got)
		}
		if got := watched(c.ctx); got != c.want {
			t.Errorf("%s: a stream is handled %t", c.name, got)
		}
	}
	if got, _ := w.server.Check(t.Context(), checkOf(w.rule(), w.person())); got.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("Check itself admits nobody: %v", got)
	}
}

func TestInterceptSurvivesAPanic(t *testing.T) {
	w := newWorld(t)
	w.start()
	_, err := w.server.intercept(localContext(), nil, nil, func(context.Context, any) (any, error) { panic("x") })
	streamed := w.server.interceptStream(nil, callOf{ctx: localContext()}, nil, func(any, grpc.ServerStream) error { panic("x") })
	if status.Code(streamed) != codes.Internal {
		t.Errorf("a stream: %v", streamed)
	}
	if status.Code(err) != codes.Internal || w.figure("gatehouse_authz_panics_total") != 2 {
		t.Errorf("got %v", err)
	}
}

func TestCheckIsBounded(t *testing.T) {
	w := startWorld(t)
	_, err := w.client.Check(t.Context(), checkOf(w.rule(), "", "x-long", strings.Repeat("a", maxCheck)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
}
