package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newImport(p *program) *cobra.Command {
	var dryRun, prune bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make groups, clients and users what a YAML file says",
		Long: `Makes the issuer's groups, clients and users what a file says, and shows each
change: + is added, ~ is changed, - is removed. All of it is checked before
anything is changed; each record is then one transaction, and importing the same
file again changes nothing. A client's secret is read from its secret_file, and
replaced where it is another; without one a new client has none until gatehouse
client secret makes it, and what a client has stays as it is. A user's
password_hash (argon2id or bcrypt) is for those who have no password yet: it never
replaces one. --prune removes, in
this order, the consents, users, clients and groups that the file does not name.` + howAdministered,
		Example: `  gatehouse import site.yaml --dry-run
  gatehouse import site.yaml --prune`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				changes, doc, err := app.Plan(ctx, admin, args[0], prune)
				if err != nil {
					return err
				}
				wrong := app.Check(ctx, args[0], doc, changes)
				if wrong != nil && !dryRun {
					return wrong
				}
				for _, change := range changes {
					fmt.Fprintln(cmd.OutOrStdout(), change.Text)
				}
				if dryRun {
					return wrong
				}
				return app.Apply(ctx, changes)
			})
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change, and what is wrong")
	c.Flags().BoolVar(&prune, "prune", false, "also remove what the file does not name")
	return c
}
