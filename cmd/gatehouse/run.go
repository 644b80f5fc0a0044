package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

func newRun(p *program) *cobra.Command {
	var o app.Options
	c := &cobra.Command{
		Use:   "run",
		Short: "Run everything: issuer, authorizer, control plane and Envoy",
		Long: `Runs all parts in one process, and Envoy as its child: for development and for
small sites. What is missing (data folder, keys, development certificates) is
made first. It ends on Ctrl-C or SIGTERM, once running requests are answered; a
second one ends it at once.

Logs are JSON lines on standard error.`,
		Example: `  gatehouse run --config mygate/gatehouse.yaml
  gatehouse run --sample --config sample/gatehouse.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			o.Out, o.Errors = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return app.Run(cmd.Context(), config, config.All(), o)
		},
	}
	c.Flags().BoolVar(&o.Sample, "sample", false, "run the sample services too, with a sample user and clients")
	logFlags(c, &o)
	return c
}

func newPart(p *program, part app.Part) *cobra.Command {
	var o app.Options
	c := &cobra.Command{
		Use:     string(part),
		Short:   "Run " + parts[part].short + " alone",
		Long:    parts[part].long,
		Example: fmt.Sprintf("  gatehouse %s --config /etc/gatehouse/gatehouse.yaml", part),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			o.Out, o.Errors = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return app.Run(cmd.Context(), config, []app.Part{part}, o)
		},
	}
	logFlags(c, &o)
	return c
}

func logFlags(c *cobra.Command, o *app.Options) {
	c.Flags().StringVar(&o.LogLevel, "log-level", "info", "the least that is logged: debug, info, warn or error")
}

var parts = map[app.Part]struct{ short, long string }{
	app.Issuer: {"the issuer", `Runs the issuer as a process of its own: logins, tokens, keys, and the feed of
revocations for authorizers. It keeps the database open; meanwhile the commands
client, user and keys go through its admin socket.`},
	app.Authz: {"the authorizer", `Runs the authorizer as a process of its own: it answers Envoy's Check for every
request. Its rule keys must be there: ` + "`gatehouse init`" + ` makes them, or copy the
control plane's rule.pub.`},
	app.RateLimit: {"the rate-limit service", `Runs the rate-limit service as a process of its own: it counts what limits that
are shared, and plans, allow, in memory or in Redis.`},
	app.ControlPlane: {"the control plane", `Runs the control plane as a process of its own: it compiles the gateway part of
the configuration into Envoy's resources, and follows edits of it. /status on
its telemetry address tells what each Envoy acknowledged or refused.`},
}
