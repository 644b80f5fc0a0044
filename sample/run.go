package sample

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/token"
)

// Where the services listen, and where orders' sidecar lets it call others, as
// sample/gatehouse.yaml says.
const (
	OrdersAddress  = "127.0.0.1:9101"
	ProfileAddress = "127.0.0.1:9102"
	GRPCAddress    = "127.0.0.1:9103"
	Outbound       = "127.0.0.1:9301"
)

// Config is what a service has to know to verify who calls.
type Config struct {
	// TrustDomain is that of the site, the first part of the services' names.
	TrustDomain string
	// KeysURL is /assertion-keys of the authorizer or a sidecar.
	KeysURL string
	// Logger is told of requests that are refused; nil: nobody is.
	Logger *slog.Logger
}

func (c Config) verifier(service string) (*token.ServiceVerifier, error) {
	return token.NewServiceVerifier(token.ServiceConfig{
		Service: "spiffe://" + c.TrustDomain + "/service/" + service, KeysURL: c.KeysURL, Logger: c.Logger,
	})
}

// Run serves all of them until ctx ends.
func Run(ctx context.Context, config Config) error {
	group, ctx := errgroup.WithContext(ctx)
	handlers, err := config.handlers()
	if err != nil {
		return fmt.Errorf("starting a sample service: %w", err)
	}
	for address, handler := range handlers {
		group.Go(func() error {
			listener, err := serve.Listen(address)
			if err != nil {
				return fmt.Errorf("starting a sample service: %w", err)
			}
			return serve.HTTP(ctx, listener, handler)
		})
	}
	group.Go(func() error {
		verifier, err := config.verifier("orders-grpc")
		if err != nil {
			return fmt.Errorf("starting a sample service: %w", err)
		}
		listener, err := serve.Listen(GRPCAddress)
		if err != nil {
			return fmt.Errorf("starting a sample service: %w", err)
		}
		return serve.GRPC(ctx, listener, newGRPC(verifier))
	})
	return group.Wait()
}

func (c Config) handlers() (map[string]http.Handler, error) {
	outbound, err := token.NewOutbound(Outbound)
	if err != nil {
		return nil, err
	}
	orders, err := c.verifier("orders")
	if err != nil {
		return nil, err
	}
	profile, err := c.verifier("profile")
	if err != nil {
		return nil, err
	}
	return map[string]http.Handler{OrdersAddress: Orders(orders, outbound), ProfileAddress: Profile(profile)}, nil
}

// newGRPC is the orders service's gRPC side: the standard health service stands
// in for a real one.
func newGRPC(verifier *token.ServiceVerifier) *grpc.Server {
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(verifier.Unary, func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := token.CheckScopes(ctx, "read:orders"); err != nil {
				return nil, err
			}
			return handle(ctx, request)
		}),
		grpc.ChainStreamInterceptor(verifier.Stream, func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := token.CheckScopes(stream.Context(), "read:orders"); err != nil {
				return err
			}
			return handle(server, stream)
		}),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}
