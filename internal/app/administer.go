package app

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Administer does work on the issuer: through the admin socket of the process
// that runs it, or, where none does, on the database itself.
func Administer(ctx context.Context, c *Config, work func(context.Context, adminv1.AdminClient) error) error {
	if c.Issuer == nil {
		return fmt.Errorf("%s has no issuer: there is nothing to administer here", c.Path())
	}
	if reachable(c.Issuer.AdminSocket) {
		return throughSocket(ctx, c.Issuer.AdminSocket, work)
	}
	err := onDatabase(ctx, c, work)
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("another process holds %s and does not answer on %s: is an issuer with another admin_socket running?", c.Issuer.Database, c.Issuer.AdminSocket)
	}
	return err
}

func throughSocket(ctx context.Context, address string, work func(context.Context, adminv1.AdminClient) error) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	defer conn.Close()
	return work(ctx, adminv1.NewAdminClient(conn))
}

// onDatabase opens the database for this process alone.
func onDatabase(ctx context.Context, c *Config, work func(context.Context, adminv1.AdminClient) error) error {
	i, err := offline(c)
	if err != nil {
		return err
	}
	return i.Administer(ctx, func(service adminv1.AdminServer) error { return work(ctx, admin.Local(service)) })
}
