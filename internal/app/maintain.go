package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// OfflineIssuer is an issuer whose database can be worked on.
type OfflineIssuer = issuer.Issuer

// Offline is the issuer of a configuration, for work on its database while no
// process runs it.
func Offline(c *Config) (*issuer.Issuer, error) {
	if c.Issuer == nil {
		return nil, fmt.Errorf("%s has no issuer: there is nothing to administer here", c.Path())
	}
	if reachable(c.Issuer.AdminSocket) {
		return nil, fmt.Errorf("an issuer runs on this database (it answers on %s): stop it first", c.Issuer.AdminSocket)
	}
	return offline(c)
}

func offline(c *Config) (*issuer.Issuer, error) {
	if err := c.Prepare([]Part{Issuer}, time.Now); err != nil {
		return nil, err
	}
	kek, err := environmentKEK()
	if err != nil {
		return nil, err
	}
	return issuer.New(*c.Issuer, issuer.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now, KEK: kek})
}

// Backup writes a consistent copy of the issuer's database, through the admin
// socket where an issuer runs.
func Backup(ctx context.Context, c *Config, w io.Writer) error {
	if c.Issuer == nil {
		return fmt.Errorf("%s has no issuer: there is nothing to back up here", c.Path())
	}
	if !reachable(c.Issuer.AdminSocket) {
		i, err := offline(c)
		if err != nil {
			return err
		}
		return i.Backup(ctx, w)
	}
	return throughSocket(ctx, c.Issuer.AdminSocket, func(ctx context.Context, admin adminv1.AdminClient) error {
		stream, err := admin.Backup(ctx, &adminv1.BackupRequest{})
		if err != nil {
			return err
		}
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := w.Write(part.GetChunk()); err != nil {
				return fmt.Errorf("writing the backup: %w", err)
			}
		}
	})
}
