package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

func newStore(p *program) *cobra.Command {
	return parent("store", "Back up, restore, check and compact the issuer's database",
		`Looks after the issuer's database. A backup may be made while the issuer runs; all
else needs it stopped.`,
		`  gatehouse store backup monday.db
  gatehouse store check`,
		newStoreBackup(p), newStoreRestore(p),
		p.offline(&cobra.Command{
			Use:   "check",
			Short: "Check that the database is sound",
			Long:  `Checks every page of the database, and its schema.`,
			Args:  cobra.NoArgs,
		}, func(cmd *cobra.Command, _ *app.Config, i *app.OfflineIssuer) error {
			if err := i.Check(); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the database is sound")
			return nil
		}),
		p.offline(&cobra.Command{
			Use:   "compact",
			Short: "Give the space that is free in the database back to the disk",
			Long: `Rewrites the database without its free space: a database file never shrinks by
itself.`,
			Args: cobra.NoArgs,
		}, func(cmd *cobra.Command, _ *app.Config, i *app.OfflineIssuer) error {
			before, after, err := i.Compact()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "from %d to %d bytes\n", before, after)
			return nil
		}),
	)
}

// offline makes a command work on the database of a stopped issuer.
func (p *program) offline(c *cobra.Command, work func(*cobra.Command, *app.Config, *app.OfflineIssuer) error) *cobra.Command {
	c.Long += "\n\nNo issuer may run meanwhile."
	if c.Example == "" {
		c.Example = "  gatehouse store " + c.Use
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := p.load()
		if err != nil {
			return err
		}
		i, err := app.Offline(config)
		if err != nil {
			return err
		}
		return work(cmd, config, i)
	}
	return c
}

func newStoreBackup(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the database, while it is in use",
		Long: `Writes a consistent copy of the issuer's database into a new file (0600), while the
issuer goes on. Keep issuer.key_encryption_key apart from it: together they can
sign tokens.` + howAdministered,
		Example: `  gatehouse store backup monday.db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			partial := args[0] + ".partial"
			if _, err := os.Stat(args[0]); err == nil {
				return fmt.Errorf("%s is there already: choose another name, or remove it", args[0])
			}
			file, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return fmt.Errorf("preparing the backup: %w", err)
			}
			err = plain(app.Backup(cmd.Context(), config, file))
			if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
				return errors.Join(err, os.Remove(partial))
			}
			return os.Rename(partial, args[0])
		},
	}
}

func newStoreRestore(p *program) *cobra.Command {
	return p.offline(&cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the database, and end all that was issued",
		Long: `Puts a backup in the place of the issuer's database, which is kept beside it as
DATABASE.replaced. A backup does not know what was revoked after it, so nothing
that was issued so far is good any more: signing keys are made anew, everybody
has to log in again, and programs have to get new tokens. The key-encryption key
has to be the one that the backup was made under.`,
		Example: `  gatehouse store restore monday.db`,
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, config *app.Config, i *app.OfflineIssuer) error {
		if err := i.Restore(cmd.Context(), cmd.Flags().Arg(0)); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "restored; what was there is in", string(config.Issuer.Database)+".replaced")
		return nil
	})
}
