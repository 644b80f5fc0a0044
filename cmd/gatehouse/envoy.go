package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/app"
)

func newEnvoy(p *program) *cobra.Command {
	var run, which bool
	var o app.Options
	c := &cobra.Command{
		Use:   "envoy",
		Short: "Print the bootstrap for an Envoy, or run one",
		Long: `Prints the bootstrap of an Envoy that takes its configuration from the control plane
and proves itself as the configuration's ` + "`envoy`" + ` part says. With --run it runs that
Envoy as a process of its own and drains it on SIGTERM; with --which it prints the
path of the Envoy that would be run.`,
		Example: `  gatehouse envoy --config gatehouse.yaml > bootstrap.json
  gatehouse envoy --config gatehouse.yaml --run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if run && which {
				return usage("--run and --which: choose one of the two")
			}
			config, err := p.load()
			switch {
			case err != nil:
				return err
			case run:
				o.Out, o.Errors = cmd.OutOrStdout(), cmd.ErrOrStderr()
				return app.RunEnvoy(cmd.Context(), config, o)
			case which:
				path, err := envoy.Find(cmd.Context(), string(config.Envoy.Path))
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), path)
				}
				return err
			}
			bootstrap, err := envoy.Render(config.Envoy)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(bootstrap)
			return err
		},
	}
	c.Flags().BoolVar(&run, "run", false, "run Envoy with the bootstrap")
	c.Flags().BoolVar(&which, "which", false, "print the path of the Envoy that would be run")
	logFlags(c, &o)
	return c
}
