package authz

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	// maxCheck bounds a Check request: Envoy takes up to 60 KiB of headers, and
	// a rule up to 16.
	maxCheck = 128 << 10
	// maxStreams bounds the requests in flight on one connection, of which each
	// Envoy worker has one.
	maxStreams = 4096
)

func (s *Server) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(s.transport),
		grpc.MaxRecvMsgSize(maxCheck),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: serve.ConnectionAge, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.intercept),
		grpc.StreamInterceptor(s.interceptStream),
	}
}

// intercept admits gateways and sidecars alone, whatever they call, and keeps a panic
// outside of Check's own guard from ending the process. Envoy makes an error of
// either kind a 503.
func (s *Server) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.panicked(fault)
			response, err = nil, status.Error(codes.Internal, "internal error")
		}
	}()
	if err := s.admitCaller(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

// interceptStream does the same for calls that go on.
func (s *Server) interceptStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.panicked(fault)
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	if err := s.admitCaller(stream.Context()); err != nil {
		return err
	}
	return handle(server, stream)
}

func (s *Server) admitCaller(ctx context.Context) error {
	caller, err := serve.Caller(ctx, s.config.LocalIdentity)
	domain := trustDomain(s.config.LocalIdentity)
	switch {
	case err != nil:
		s.logger.Warn("caller refused", "error", fmt.Errorf("identifying the caller: %w", err))
	case !isGateway(caller, domain) && !isService(caller, domain):
		s.logger.Warn("caller refused", "error", fmt.Errorf("%q is neither a gateway nor a service of this trust domain", caller))
	default:
		return nil
	}
	return status.Error(codes.PermissionDenied, "the caller is neither a gateway nor a sidecar")
}

// health answers Envoy's health checks from the state as it is.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	missing serve.Missing
}

func registerHealth(server *grpc.Server, missing serve.Missing) {
	grpc_health_v1.RegisterHealthServer(server, &health{missing: missing})
}

// Check implements grpc_health_v1.HealthServer for the server as a whole and
// for the Authorization service.
func (h *health) Check(_ context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if !slices.Contains([]string{"", authv3.Authorization_ServiceDesc.ServiceName}, request.GetService()) {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	if len(h.missing()) > 0 {
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
