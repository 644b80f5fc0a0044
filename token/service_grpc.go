package token

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Unary is HTTP for unary gRPC calls: grpc.UnaryInterceptor(v.Unary).
func (v *ServiceVerifier) Unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := v.admit(ctx)
	if err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

// Stream is HTTP for gRPC streams: grpc.StreamInterceptor(v.Stream).
func (v *ServiceVerifier) Stream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := v.admit(stream.Context())
	if err != nil {
		return err
	}
	return handle(server, &admittedStream{ServerStream: stream, ctx: ctx})
}

type admittedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *admittedStream) Context() context.Context { return s.ctx }

func (v *ServiceVerifier) admit(ctx context.Context) (context.Context, error) {
	values := metadata.ValueFromIncomingContext(ctx, AssertionHeader)
	a, err := v.Verify(ctx, values)
	switch {
	case err == nil:
		return withCaller(ctx, a, values[0]), nil
	case ReasonOf(err) == ReasonKeysUnavailable:
		v.refused(ctx, err)
		return nil, status.Error(codes.Unavailable, "the caller cannot be verified at the moment")
	default:
		v.refused(ctx, err)
		return nil, status.Error(codes.Unauthenticated, "the request does not come through the gate")
	}
}

// CheckScopes is RequireScope for gRPC handlers: nil where the caller has all
// the scopes, else a status to return.
func CheckScopes(ctx context.Context, scopes ...string) error {
	a, ok := CallerFrom(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "the request does not come through the gate")
	}
	if scope, lacking := lacks(a, scopes); lacking {
		return status.Errorf(codes.PermissionDenied, "the scope %s is required", scope)
	}
	return nil
}
