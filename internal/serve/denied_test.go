package serve

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// watching answers a health watch once and keeps it open.
type watching struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (watching) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	if err := stream.Send(&grpc_health_v1.HealthCheckResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func startWatching(t *testing.T, id Identity, denied *Denied) string {
	t.Helper()
	credentials, err := guarded("127.0.0.1:0", id, denied)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials))
	grpc_health_v1.RegisterHealthServer(server, watching{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return listener.Addr().String()
}

// watch opens a stream and waits for its first message.
func watch(t *testing.T, address string, id Identity) (grpc_health_v1.Health_WatchClient, error) {
	t.Helper()
	credentials, err := DialCredentials(address, id, "spiffe://test/server")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// Who is revoked loses its open streams at once and gets no new ones; others
// keep theirs.
func TestDeniedEndsConnections(t *testing.T) {
	a, denied := newAuthority(t), NewDenied()
	address := startWatching(t, a.identity(t, "server", "spiffe://test/server"), denied)
	bad, good := a.identity(t, "bad", "spiffe://test/bad"), a.identity(t, "good", "spiffe://test/good")
	badStream, err := watch(t, address, bad)
	if err != nil {
		t.Fatal(err)
	}
	goodStream, err := watch(t, address, good)
	if err != nil {
		t.Fatal(err)
	}
	denied.Set([]string{"spiffe://test/bad"})
	if _, err := badStream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the revoked peer's stream: %v", err)
	}
	if _, err := watch(t, address, bad); status.Code(err) != codes.Unavailable {
		t.Errorf("the revoked peer connects again: %v", err)
	}
	if err := goodStream.Context().Err(); err != nil {
		t.Errorf("another peer's stream ended: %v", err)
	}
	denied.Set(nil)
	if _, err := watch(t, address, bad); err != nil {
		t.Errorf("an allowed peer cannot come back: %v", err)
	}
}

// A root vouches for one trust domain.
func TestOtherTrustDomainUnderTheSameRoot(t *testing.T) {
	a := newAuthority(t)
	address := startWatching(t, a.identity(t, "server", "spiffe://test/server"), NewDenied())
	if _, err := watch(t, address, a.identity(t, "other", "spiffe://other/server")); status.Code(err) != codes.Unavailable {
		t.Errorf("a peer of another trust domain: %v", err)
	}
}

// New roots and certificates in the files count without a restart, on both
// sides.
func TestRotationNeedsNoRestart(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	server := before.identity(t, "server", "spiffe://test/server")
	address := startWatching(t, server, NewDenied())
	client := before.identity(t, "client", "spiffe://test/client")
	if _, err := watch(t, address, client); err != nil {
		t.Fatal(err)
	}
	replace := func(old, next Identity) {
		for from, to := range map[string]string{
			string(next.Certificate): string(old.Certificate), string(next.Key): string(old.Key), string(next.CA): string(old.CA),
		} {
			content, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	stranger := after.identity(t, "stranger", "spiffe://test/client")
	if _, err := watch(t, address, stranger); err == nil {
		t.Fatal("a peer under another root is taken before the rotation")
	}
	replace(server, after.identity(t, "next", "spiffe://test/server"))
	if _, err := watch(t, address, stranger); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if _, err := watch(t, address, client); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a peer under the old root is still taken: %v", err)
	}
}

// An ended certificate gets no connection.
func TestEndedCertificate(t *testing.T) {
	a := newAuthority(t)
	address := startWatching(t, a.identity(t, "server", "spiffe://test/server"), NewDenied())
	if _, err := watch(t, address, a.identityUntil(t, "old", time.Now().Add(-time.Minute), "spiffe://test/client")); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate that ended: %v", err)
	}
}
