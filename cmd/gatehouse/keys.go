package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newKeys(p *program) *cobra.Command {
	return parent("keys", "List, rotate and purge the keys that sign tokens",
		`Administers the issuer's signing keys. A key is published for a while (next), then
signs (active), then only verifies what it signed (retired).`+howAdministered,
		`  gatehouse keys list
  gatehouse keys rotate`,
		newKeysList(p), newKeysRotate(p),
		p.named("purge ID", "Drop a key at once and refuse every token it signed",
			`For a key that leaked: it is dropped at once, and every token it signed is refused
within a second. People have to get new tokens.`,
			`  gatehouse keys purge 4c2-Zk`,
			func(ctx context.Context, admin adminv1.AdminClient, id string) error {
				_, err := admin.PurgeKey(ctx, &adminv1.PurgeKeyRequest{Id: id})
				return err
			}),
	)
}

func newKeysList(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the signing keys",
		Long:    `Lists the signing keys with their states and when they changed.` + howAdministered,
		Example: `  gatehouse keys list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.ListKeys(ctx, &adminv1.ListKeysRequest{})
				if err != nil {
					return err
				}
				rows := [][]string{{"ID", "ALGORITHM", "STATE", "SIGNS FROM", "RETIRED"}}
				for _, k := range answer.GetKeys() {
					state := strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_"))
					rows = append(rows, []string{k.GetId(), k.GetAlgorithm(), state, when(k.GetActiveAt()), when(k.GetRetiredAt())})
				}
				return table(cmd, rows)
			})
		},
	}
}

func newKeysRotate(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Publish a new key, which signs once everybody can know it",
		Long: `Publishes a new key. It signs after issuer.keys.publish_lead, when every gateway
has fetched it; nobody is denied meanwhile.` + howAdministered,
		Example: `  gatehouse keys rotate`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.RotateKeys(ctx, &adminv1.RotateKeysRequest{})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "key", answer.GetNext().GetId(), "signs from", when(answer.GetNext().GetActiveAt()))
				return nil
			})
		},
	}
}

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
