package token

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Outbound calls other services on behalf of the callers of this one, through
// the outbound listener of its own sidecar and nowhere else: an assertion is a
// credential, and only the sidecar may trade it for the next.
type Outbound struct {
	address string
}

// NewOutbound is for the sidecar's outbound listener, HOST:PORT on loopback.
func NewOutbound(address string) (*Outbound, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || !isLoopback(host) {
		return nil, fmt.Errorf("%q is no loopback HOST:PORT, where a sidecar's outbound listener is", address)
	}
	return &Outbound{address: address}, nil
}

// Client is for calls to http://SERVICE/PATH, each with the context of the
// request that it is made for.
func (o *Outbound) Client() *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Client{
		Transport: passOn{&http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", o.address)
			},
			MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
		}},
		// The answer's Location is the other service's choice.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// passOn adds the caller's assertion.
type passOn struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p passOn) RoundTrip(r *http.Request) (*http.Response, error) {
	caller, ok := r.Context().Value(passedKey{}).(passed)
	if !ok || r.URL.Scheme != "http" {
		if r.Body != nil {
			r.Body.Close()
		}
		if ok {
			return nil, fmt.Errorf("calling %s: write http://SERVICE/PATH: the sidecar encrypts", r.URL.Redacted())
		}
		return nil, fmt.Errorf("calling %s: %w", r.URL.Redacted(), errNoCaller)
	}
	r = r.Clone(r.Context())
	r.Header.Set(AssertionHeader, caller.text)
	r.Header.Del(narrowHeader)
	if scopes, narrow := narrowedTo(r.Context()); narrow {
		r.Header.Set(narrowHeader, scopes)
	}
	return p.next.RoundTrip(r)
}

// Dial prepares a gRPC connection to a service.
func (o *Outbound) Dial(service string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+o.address, append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(service), grpc.WithNoProxy(),
		grpc.WithChainUnaryInterceptor(passUnary), grpc.WithChainStreamInterceptor(passStream),
	)...)
}

func passUnary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, err := outgoing(ctx)
	if err != nil {
		return err
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

func passStream(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := outgoing(ctx)
	if err != nil {
		return nil, err
	}
	return open(ctx, d, conn, method, options...)
}

func outgoing(ctx context.Context) (context.Context, error) {
	caller, ok := ctx.Value(passedKey{}).(passed)
	if !ok {
		return nil, errNoCaller
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	md.Set(AssertionHeader, caller.text)
	md.Delete(narrowHeader)
	if scopes, narrow := narrowedTo(ctx); narrow {
		md.Set(narrowHeader, scopes)
	}
	return metadata.NewOutgoingContext(ctx, md), nil
}

type narrowKey struct{}

// Narrow makes calls with the context pass on these scopes alone, of those that
// the caller has; more than it has are refused by the sidecar.
func Narrow(ctx context.Context, scopes ...string) context.Context {
	return context.WithValue(ctx, narrowKey{}, strings.Join(scopes, " "))
}

func narrowedTo(ctx context.Context) (scopes string, narrow bool) {
	scopes, narrow = ctx.Value(narrowKey{}).(string)
	return scopes, narrow
}
