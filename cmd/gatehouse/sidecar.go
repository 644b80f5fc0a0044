package main

import (
	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
	"gatehouse.dev/gatehouse/internal/conf"
)

func newSidecar() *cobra.Command {
	var s app.Sidecar
	var token, certificate, key, authorities string
	var o app.Options
	c := &cobra.Command{
		Use:   "sidecar",
		Short: "Run the Envoy beside a service",
		Long: `Runs an Envoy beside a service, as a process of its own: it gets a certificate,
takes its configuration from the control plane, starts Envoy again should it die,
and drains it on SIGTERM. No configuration file is needed.

The first start needs a join token, which ` + "`gatehouse workload token`" + ` makes at the
control plane; it is good once, for ten minutes, for this service alone. From then
on the certificate renews itself, and the folder --state keeps it: a restart, or an
outage of up to a day, needs no token.

In place of the workload CA, a certificate may come from files that something else
keeps (--certificate, --key, --ca) or from SPIRE's agent (--spire).

The telemetry address, for this machine alone, serves /readyz, /livez, /metrics and
/assertion-keys: the public keys with which the service may verify assertions. With
--assertion-keys they are also at a Unix socket that the next sidecar of the service
takes over, so that the service never has to ask elsewhere. Its folder says who can
ask; no other user may be able to write to it.`,
		Example: `  gatehouse sidecar --service orders --enrol gate.internal:18001 --xds gate.internal:18000 \
    --join-token /run/secrets/orders.token --state /var/lib/gatehouse/orders
  gatehouse sidecar --service orders --xds gate.internal:18000 --spire unix:/run/spire/agent.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, required := range []string{"service", "xds"} {
				if !cmd.Flags().Changed(required) {
					return usage("--" + required + " is missing: see the examples")
				}
			}
			s.Identity.JoinToken = conf.Path(token)
			s.Identity.Certificate, s.Identity.Key, s.Identity.CA = conf.Path(certificate), conf.Path(key), conf.Path(authorities)
			o.Out, o.Errors = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return app.RunSidecar(cmd.Context(), s, o)
		},
	}
	f := c.Flags()
	f.StringVar(&s.Service, "service", "", "the service's name in gateway.services (required)")
	f.StringVar(&s.XDS, "xds", "", "the control plane, HOST:PORT (required)")
	f.StringVar(&s.Identity.Enrol, "enrol", "", "the workload CA, HOST:PORT")
	f.StringVar(&token, "join-token", "", "the file of the join token, for the first start")
	f.StringVar(&s.State, "state", "gatehouse-sidecar", "the folder of certificate, key and sockets, one for each sidecar")
	f.StringVar(&certificate, "certificate", "", "the PEM certificate chain, in place of --enrol")
	f.StringVar(&key, "key", "", "the PEM private key of --certificate")
	f.StringVar(&authorities, "ca", "", "the PEM authorities beside --certificate")
	f.StringVar(&s.Identity.SPIRE, "spire", "", "the socket of SPIRE's Workload API, unix:PATH, in place of --enrol")
	f.StringVar(&s.TrustDomain, "trust-domain", "gatehouse.local", "the SPIFFE trust domain of the site")
	f.StringVar(&s.Node, "node", "", "the node's id, unique among sidecars (default SERVICE@HOSTNAME)")
	f.StringVar(&s.Telemetry, "telemetry", "127.0.0.1:9495", "the loopback address of /readyz, /metrics and /assertion-keys")
	f.StringVar(&s.Keys, "assertion-keys", "", "the socket of the service's sidecars for /assertion-keys, unix:PATH (default none)")
	f.StringVar(&s.Admin, "envoy-admin", "", "Envoy's own administration, 127.0.0.1:PORT or unix:PATH (default a socket in --state)")
	f.StringVar(&s.Path, "envoy", "", "the Envoy binary (default as envoy.path in the configuration)")
	f.Uint32Var(&s.Concurrency, "concurrency", 2, "Envoy's worker threads")
	logFlags(c, &o)
	return c
}
