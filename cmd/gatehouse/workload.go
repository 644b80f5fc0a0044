package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/app"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

const howWorkloads = `

An ID is a SPIFFE id, or the name of a service in gateway.services. While a control
plane runs, its CA's admin socket is used; else the CA's database is opened.`

func newWorkload(p *program) *cobra.Command {
	return parent("workload", "Let workloads join, revoke and list them",
		`Administers workloads: the sidecars and parts that get certificates of the site's
own CA.`+howWorkloads,
		`  gatehouse workload token --service orders --out orders.join
  gatehouse workload revoke orders`,
		newWorkloadToken(p), newWorkloadList(p),
		p.workload("revoke ID", "Refuse a workload everywhere, at once",
			`Puts a workload on the deny list: no new certificate, no configuration, no Check, and
no connection to others, whatever certificates it has.`,
			`  gatehouse workload revoke orders`, "revoked",
			func(ctx context.Context, w workloadv1.WorkloadsClient, id string) error {
				_, err := w.Revoke(ctx, &workloadv1.RevokeRequest{SpiffeId: id})
				return err
			}),
		warned(p.workload("allow ID", "Let a revoked workload in again",
			`Takes a workload off the deny list, once the last certificate that it was issued has
ended. It needs a new join token then. Certificates in files (identity.certificate)
are not known to the CA, and are good again as well until they end, up to 90 days:
where somebody else may have their key, leave the workload revoked, or replace the
root.`,
			`  gatehouse workload allow orders`, "allowed",
			func(ctx context.Context, w workloadv1.WorkloadsClient, id string) error {
				_, err := w.Allow(ctx, &workloadv1.AllowRequest{SpiffeId: id})
				return err
			}), "a certificate of it in a file, if it ever had one, is good again until it ends, up to 90 days: the CA keeps no record of those"),
	)
}

// warned is a command that warns once it has succeeded.
func warned(c *cobra.Command, warning string) *cobra.Command {
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
		return err
	}
	return c
}

// workload is a command about one workload, and says in the end whose it was.
func (p *program) workload(use, short, long, example, done string, work func(context.Context, workloadv1.WorkloadsClient, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long + howWorkloads, Example: example,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.workloads(cmd, func(ctx context.Context, config *app.Config, w workloadv1.WorkloadsClient) error {
				id, err := spiffeID(config, args[0])
				if err != nil {
					return err
				}
				if err := work(ctx, w, id); err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), done, id)
				return err
			})
		},
	}
}

// workloads does work on the workload CA of the configuration.
func (p *program) workloads(cmd *cobra.Command, work func(context.Context, *app.Config, workloadv1.WorkloadsClient) error) error {
	config, err := p.load()
	if err != nil {
		return err
	}
	return plain(app.Workloads(cmd.Context(), config, func(ctx context.Context, w workloadv1.WorkloadsClient) error {
		return work(ctx, config, w)
	}))
}

// spiffeID is an id that may be given as the name of a service. A name that is
// misspelt must not pass for another workload, which nobody meant.
func spiffeID(config *app.Config, text string) (string, error) {
	if strings.HasPrefix(text, "spiffe://") {
		return text, nil
	}
	id := envoy.ServiceIdentity(config.TrustDomain, text)
	if _, known := config.Gateway.Services[text]; !known {
		return "", fmt.Errorf("%q is no service of gateway.services in %s: declare it there, or write the SPIFFE id itself, such as %s", text, config.Path(), id)
	}
	return id, nil
}

func newWorkloadToken(p *program) *cobra.Command {
	var id, service, out string
	var life time.Duration
	c := &cobra.Command{
		Use:   "token",
		Short: "Make a join token, with which a workload gets its first certificate",
		Long: `Makes a join token for one workload. It works once, for at most 10 minutes, and names
the CA's root, so that the workload enrols with nobody else. It goes into a file,
which is to be brought to the workload in secret.` + howWorkloads,
		Example: `  gatehouse workload token --service orders --out orders.join
  gatehouse workload token --id spiffe://gatehouse.local/authz --out authz.join`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (id == "") == (service == "") || out == "" {
				return usage("write --out FILE, and either --service NAME or --id spiffe://…")
			}
			if life < time.Second || life > 10*time.Minute {
				return usage("--life must be between 1s and 10m")
			}
			secret, err := openSecretFile(out)
			if err != nil {
				return err
			}
			err = p.workloads(cmd, func(ctx context.Context, config *app.Config, w workloadv1.WorkloadsClient) error {
				id, err := spiffeID(config, id+service)
				if err != nil {
					return err
				}
				made, err := w.CreateToken(ctx, &workloadv1.CreateTokenRequest{SpiffeId: id, Seconds: uint32(life / time.Second)})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "for", id, "good until", when(made.GetExpiresAt()))
				return secret.write(cmd, made.GetToken())
			})
			if err != nil {
				secret.discard()
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&id, "id", "", "the SPIFFE id that it is for")
	f.StringVar(&service, "service", "", "the service that it is for, in place of --id")
	f.StringVar(&out, "out", "", "the file (0600) that it is written into")
	f.DurationVar(&life, "life", 10*time.Minute, "how long it works, at most 10m")
	return c
}

func newWorkloadList(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the workloads with their last certificates",
		Long:    `Lists the workloads that were ever issued a certificate, or revoked.` + howWorkloads,
		Example: `  gatehouse workload list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.workloads(cmd, func(ctx context.Context, _ *app.Config, w workloadv1.WorkloadsClient) error {
				answer, err := w.List(ctx, &workloadv1.ListRequest{})
				if err != nil {
					return err
				}
				rows := [][]string{{"ID", "STATE", "SERIAL", "ISSUED", "ENDS"}}
				for _, k := range answer.GetWorkloads() {
					rows = append(rows, []string{k.GetSpiffeId(), workloadState(k), k.GetSerial(), when(k.GetIssuedAt()), when(k.GetNotAfter())})
				}
				return table(cmd, rows)
			})
		},
	}
}

func workloadState(w *workloadv1.Workload) string {
	switch {
	case w.GetRevokedAt() != nil:
		return "revoked"
	case w.GetNotAfter().AsTime().Before(time.Now()):
		return "ended"
	default:
		return "good"
	}
}
