package main

import (
	"context"
	"errors"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/app"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// administer does work on the issuer of the configuration.
func (p *program) administer(cmd *cobra.Command, work func(context.Context, adminv1.AdminClient) error) error {
	config, err := p.load()
	if err != nil {
		return err
	}
	return plain(app.Administer(cmd.Context(), config, work))
}

// plain is an error of the issuer's in its own words, without gRPC's.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return errors.New(s.Message())
	}
	return err
}

// named is an administrative command about one thing, which it names.
func (p *program) named(use, short, long, example string, work func(context.Context, adminv1.AdminClient, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long + howAdministered, Example: example,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				return work(ctx, admin, args[0])
			})
		},
	}
}

// table writes rows in aligned columns; an empty cell is "-".
func table(cmd *cobra.Command, rows [][]string) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
		}
		if _, err := w.Write([]byte(strings.Join(row, "\t") + "\n")); err != nil {
			return err
		}
	}
	return w.Flush()
}
