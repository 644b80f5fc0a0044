package sample

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Where the services listen, as sample/gatehouse.yaml says.
const (
	OrdersAddress  = "127.0.0.1:9101"
	ProfileAddress = "127.0.0.1:9102"
	GRPCAddress    = "127.0.0.1:9103"
)

// Run serves all of them until ctx ends.
func Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for address, handler := range map[string]http.Handler{OrdersAddress: Orders(), ProfileAddress: Profile()} {
		group.Go(func() error {
			listener, err := serve.Listen(address)
			if err != nil {
				return fmt.Errorf("starting a sample service: %w", err)
			}
			return serve.HTTP(ctx, listener, handler)
		})
	}
	group.Go(func() error {
		listener, err := serve.Listen(GRPCAddress)
		if err != nil {
			return fmt.Errorf("starting a sample service: %w", err)
		}
		return serve.GRPC(ctx, listener, newGRPC())
	})
	return group.Wait()
}

// newGRPC is the orders service's gRPC side: the standard health service stands
// in for a real one.
func newGRPC() *grpc.Server {
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}
