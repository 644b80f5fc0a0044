package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Serve makes a gRPC server for the admin socket. What is changed through it is
// recorded under the user id of the process at the other end, which the kernel
// vouches for.
func Serve(service adminv1.AdminServer) *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(socket{}),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(store.WithOrigin(ctx, store.Origin{Actor: actor(ctx)}), request)
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(service, attributed{stream})
		}),
	)
	adminv1.RegisterAdminServer(server, service)
	return server
}

// attributed is a stream whose origin is the process at the other end.
type attributed struct{ grpc.ServerStream }

// Context implements grpc.ServerStream.
func (s attributed) Context() context.Context {
	ctx := s.ServerStream.Context()
	return store.WithOrigin(ctx, store.Origin{Actor: actor(ctx)})
}

func actor(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		if who, ok := p.AuthInfo.(process); ok {
			return uid(int(who.uid))
		}
	}
	return "unknown"
}

func uid(id int) string { return fmt.Sprintf("uid %d", id) }

// Offline is who administers without a socket: whoever runs this process.
func Offline(ctx context.Context) context.Context {
	return store.WithOrigin(ctx, store.Origin{Actor: uid(os.Getuid())})
}

// process is the process at the other end of a Unix socket.
type process struct {
	credentials.CommonAuthInfo
	uid uint32
}

// AuthType implements credentials.AuthInfo.
func (process) AuthType() string { return "unix" }

// socket reads who connected; the file's mode is what keeps others out.
type socket struct{}

var errNotUnix = errors.New("the admin socket is a Unix socket")

// ServerHandshake implements credentials.TransportCredentials.
func (socket) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unix, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, errNotUnix
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("reading who connected: %w", err)
	}
	var who *syscall.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		who, failure = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || failure != nil {
		return nil, nil, fmt.Errorf("reading who connected: %w", errors.Join(err, failure))
	}
	return conn, process{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, who.Uid}, nil
}

// ClientHandshake implements credentials.TransportCredentials: only servers
// use it.
func (socket) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errNotUnix
}

// Info implements credentials.TransportCredentials.
func (socket) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements credentials.TransportCredentials.
func (s socket) Clone() credentials.TransportCredentials { return s }

// OverrideServerName implements credentials.TransportCredentials.
func (socket) OverrideServerName(string) error { return nil }
