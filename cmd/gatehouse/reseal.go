package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

func newKeysReseal(p *program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "reseal",
		Short: "Put another key-encryption key in the place of the present one",
		Long: `Seals the private signing keys, and the audit log from now on, with another
key-encryption key. The present one is read from where the issuer has it
(issuer.key_encryption_key, or GATEHOUSE_KEY_ENCRYPTION_KEY); the new one from
--key-file, which is made where it is missing, or from
GATEHOUSE_NEW_KEY_ENCRYPTION_KEY. All is done in one step: whenever this is
interrupted, everything is under the one key or under the other, and it may be run
again. Tokens and logins stay good; a login, or a device's code, that is under way
has to begin anew.

Then let the configuration name the new key, before the issuer starts. A backup
needs the key that it was made under: keep the old one for as long as such
backups. No issuer may run meanwhile.

If the old key leaked, this is not enough: with it, a backup or another old copy of
the database still yields the private keys. Purge every signing key as well, with
gatehouse keys purge, once the issuer runs under the new key.`,
		Example: `  gatehouse keys reseal --key-file /etc/gatehouse/issuer-2.kek`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			remedy, err := app.Reseal(cmd.Context(), config, file)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "resealed:", remedy, "before the issuer starts")
			return nil
		},
	}
	c.Flags().StringVar(&file, "key-file", "", "the file with the new key, made (0600) where it is missing")
	return c
}
