package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/app"
)

func newEnvoy(p *program) *cobra.Command {
	var bootstrap, which, agent bool
	var o app.Options
	c := &cobra.Command{
		Use:   "envoy",
		Short: "Run an Envoy alone, or print its bootstrap",
		Long: `Runs an Envoy as a process of its own: it takes its configuration from the control
plane that the ` + "`envoy`" + ` part names, and is drained on SIGTERM.

With --bootstrap its bootstrap is printed instead, for an Envoy that something else
runs; with --which, the path of the Envoy that would be run. Where the Envoy has an
identity, it fetches certificate and key from this process over the socket
envoy.agent: run it with --agent beside an Envoy that something else runs.`,
		Example: `  gatehouse envoy --config gatehouse.yaml
  gatehouse envoy --config gatehouse.yaml --bootstrap > bootstrap.json
  gatehouse envoy --config gatehouse.yaml --agent`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bootstrap && which || agent && (bootstrap || which) {
				return usage("--bootstrap, --which and --agent: choose one of them")
			}
			config, err := p.load()
			switch {
			case err != nil:
				return err
			case bootstrap:
				return printBootstrap(cmd, config)
			case which:
				return printEnvoy(cmd, config)
			}
			o.Out, o.Errors = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if agent {
				return app.RunAgent(cmd.Context(), config, o)
			}
			return app.RunEnvoy(cmd.Context(), config, o)
		},
	}
	c.Flags().BoolVar(&bootstrap, "bootstrap", false, "print the bootstrap")
	c.Flags().BoolVar(&which, "which", false, "print the path of the Envoy that would be run")
	c.Flags().BoolVar(&agent, "agent", false, "run the agent alone, for an Envoy that something else runs")
	logFlags(c, &o)
	return c
}

func printBootstrap(cmd *cobra.Command, config *app.Config) error {
	text, err := envoy.Render(config.Envoy)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

func printEnvoy(cmd *cobra.Command, config *app.Config) error {
	path, err := envoy.Find(cmd.Context(), string(config.Envoy.Path))
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), path)
	}
	return err
}
