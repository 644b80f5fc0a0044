package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/controlplane/ca"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// Workloads does work on the workload CA: through the admin socket of the
// process that runs it, or, where none does, on its database itself.
func Workloads(ctx context.Context, c *Config, work func(context.Context, workloadv1.WorkloadsClient) error) error {
	address := c.ControlPlane.CA.AdminSocket
	if reachable(address) {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", address, err)
		}
		defer conn.Close()
		return work(ctx, workloadv1.NewWorkloadsClient(conn))
	}
	if err := c.Prepare([]Part{ControlPlane}, time.Now); err != nil {
		return err
	}
	server, err := ca.New(c.ControlPlane.CA, ca.Deps{Now: time.Now})
	if errors.Is(err, ca.ErrLocked) {
		return fmt.Errorf("another process holds %s and does not answer on %s: is a control plane with another ca.admin_socket running?", c.ControlPlane.CA.Database, address)
	}
	if err != nil {
		return err
	}
	return errors.Join(work(ctx, direct{server.Administration()}), server.Close())
}

// direct is a client of the service in this process.
type direct struct{ workloadv1.WorkloadsServer }

func (d direct) CreateToken(ctx context.Context, r *workloadv1.CreateTokenRequest, _ ...grpc.CallOption) (*workloadv1.CreateTokenResponse, error) {
	return d.WorkloadsServer.CreateToken(ctx, r)
}

func (d direct) Revoke(ctx context.Context, r *workloadv1.RevokeRequest, _ ...grpc.CallOption) (*workloadv1.RevokeResponse, error) {
	return d.WorkloadsServer.Revoke(ctx, r)
}

func (d direct) Allow(ctx context.Context, r *workloadv1.AllowRequest, _ ...grpc.CallOption) (*workloadv1.AllowResponse, error) {
	return d.WorkloadsServer.Allow(ctx, r)
}

func (d direct) List(ctx context.Context, r *workloadv1.ListRequest, _ ...grpc.CallOption) (*workloadv1.ListResponse, error) {
	return d.WorkloadsServer.List(ctx, r)
}

func (d direct) Reload(ctx context.Context, r *workloadv1.ReloadRequest, _ ...grpc.CallOption) (*workloadv1.ReloadResponse, error) {
	return d.WorkloadsServer.Reload(ctx, r)
}
