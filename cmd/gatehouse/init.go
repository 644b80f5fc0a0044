package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

func newInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a configuration to start from, with its keys",
		Long: `Writes gatehouse.yaml, commented, and a folder for policies into DIR (default:
the current folder), and makes the keys and development certificates in its data
folder. What is there already is left as it is, so it can also be used to make
keys for a configuration that somebody else wrote.`,
		Example: `  gatehouse init mygate`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			made, err := app.Init(dir)
			for _, name := range made {
				fmt.Fprintln(cmd.OutOrStdout(), "made", name)
			}
			return err
		},
	}
}
