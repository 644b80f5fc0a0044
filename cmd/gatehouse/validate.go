package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newValidate(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Tell everything that is wrong with a configuration",
		Long: `Checks the configuration and the policies that it names by the same code as a
start does, without starting anything. Everything that is wrong is told at once,
each with its file, line and key, and what to do. Exit code 1 if anything is.`,
		Example: `  gatehouse validate --config mygate/gatehouse.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			if err := config.CheckFiles(); err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid: %d routes, %d services\n", config.Path(), len(config.Gateway.Routes), len(config.Gateway.Services))
			return nil
		},
	}
}
