package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/envoy"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of Gatehouse, of Go, and of the Envoys it works with",
		Long:    `Prints the version and commit that this program was built from, the version of Go, and the range of Envoy versions that it runs.`,
		Example: `  gatehouse version`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "gatehouse %s\n%s %s/%s\nEnvoy %s to %s\n",
				buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, envoy.Oldest, envoy.Newest)
			return nil
		},
	}
}

// buildVersion is the module's version, which holds the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown version)"
	}
	return info.Main.Version
}
