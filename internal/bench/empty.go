package main

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"gatehouse.dev/gatehouse/internal/serve"
)

// emptyServer answers OK to every Check: the floor of a gRPC authorizer.
type emptyServer struct {
	authv3.UnimplementedAuthorizationServer
}

func (emptyServer) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := serve.Listen("unix:" + socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, emptyServer{})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return serve.GRPC(ctx, listener, server)
}
