package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

func newUsage(p *program) *cobra.Command {
	var client, subject string
	c := &cobra.Command{
		Use:   "usage",
		Short: "Show what clients and people have used of their limits",
		Long: `Shows the counters of the rate-limit service of this machine: limits that are
shared, and the quotas of plans, of this day and month in UTC. LIMIT is the quota,
or how many requests of a rate may come at once, and WINDOW then how many of those
come back in which time. At most 1000 are shown; its telemetry address serves the
same as JSON, at /usage.`,
		Example: `  gatehouse usage --client robot
  gatehouse usage --subject usr_2f0c`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if client != "" && subject != "" {
				return usage("--client and --subject exclude each other: ask for one")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			found, err := app.Usage(cmd.Context(), config, client, subject)
			if err != nil {
				return err
			}
			rows := [][]string{{"BY", "WHO", "POLICY", "WINDOW", "USED", "LIMIT"}}
			for _, u := range found {
				rows = append(rows, []string{u.By, u.Caller, u.Policy, u.Window, strconv.FormatInt(u.Used, 10), strconv.FormatInt(u.Limit, 10)})
			}
			return table(cmd, rows)
		},
	}
	c.Flags().StringVar(&client, "client", "", "of this client alone, by its id")
	c.Flags().StringVar(&subject, "subject", "", "of this person or client alone, by the subject of its tokens")
	return c
}
