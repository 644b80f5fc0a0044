package ca

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

// Whoever watches trust looks every 15 s whether the connection is alive, and
// trust may not change for days: a server that takes that for a flood would end
// every watch after a minute, for ever.
func TestAWatchMayLastQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(64 << 10)
		server := (&Server{}).adminServer()
		server.RegisterService(&grpc.ServiceDesc{ServiceName: "quiet", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
			StreamName: "watch", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
				<-stream.Context().Done()
				return nil
			},
		}}}, nil)
		go server.Serve(listener)
		defer server.Stop()
		conn, err := grpc.NewClient("passthrough:///ca", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		watch, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/quiet/watch")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = watch.RecvMsg(nil)
		if lasted := time.Since(began); lasted < 10*time.Minute {
			t.Errorf("the watch ended after %s: %v", lasted, err)
		}
	})
}
