package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newExport(p *program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write groups, clients, users and consents as YAML, without secrets",
		Long: `Writes the groups, clients, users and consents of the issuer as YAML. Hashes of secrets and
passwords are left out, unless --with-hashes names a file for all of it, which is
made with mode 0600. Clients that registered themselves are left out.` + howAdministered,
		Example: `  gatehouse export > site.yaml
  gatehouse export --with-hashes site-with-hashes.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				site, err := app.Export(ctx, admin, file != "")
				if err != nil {
					return err
				}
				text, err := site.YAML()
				if err != nil {
					return fmt.Errorf("encoding the export: %w", err)
				}
				if file == "" {
					_, err := cmd.OutOrStdout().Write(text)
					return err
				}
				out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return fmt.Errorf("preparing --with-hashes: %w", err)
				}
				_, err = out.Write(text)
				return errors.Join(err, out.Close())
			})
		},
	}
	c.Flags().StringVar(&file, "with-hashes", "", "write everything, hashes of secrets and passwords too, into this new file (0600)")
	return c
}
