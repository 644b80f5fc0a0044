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
		p.offline("check", "Check that the database is sound",
			`Checks every page of the database, and its schema.`,
			func(cmd *cobra.Command, i *app.OfflineIssuer) error {
				if err := i.Check(); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the database is sound")
				return nil
			}),
		p.offline("compact", "Give the space that is free in the database back to the disk",
			`Rewrites the database without its free space: a database file never shrinks by
itself.`,
			func(cmd *cobra.Command, i *app.OfflineIssuer) error {
				before, after, err := i.Compact()
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "from %d to %d bytes\n", before, after)
				return nil
			}),
	)
}

// offline is a command that works on the database of a stopped issuer.
func (p *program) offline(use, short, long string, work func(*cobra.Command, *app.OfflineIssuer) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long + "\n\nNo issuer may run meanwhile.", Example: "  gatehouse store " + use,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			i, err := app.Offline(config)
			if err != nil {
				return err
			}
			return work(cmd, i)
		},
	}
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
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the database, and end all that was issued",
		Long: `Puts a backup in the place of the issuer's database, which is kept beside it as
DATABASE.replaced; what an earlier restore left there has to be put elsewhere
first. A backup does not know what was revoked after it, so nothing
that was issued so far is good any more: signing keys are made anew, everybody
has to log in again, and programs have to get new tokens. No issuer may run
meanwhile.`,
		Example: `  gatehouse store restore monday.db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			i, err := app.Offline(config)
			if err != nil {
				return err
			}
			if err := i.Restore(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "restored; what was there is in", string(config.Issuer.Database)+".replaced")
			return nil
		},
	}
}
