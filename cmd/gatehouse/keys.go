package main

import (
	"context"
	"encoding/json"
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
		newKeysList(p), newKeysRotate(p), newKeysReseal(p),
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

// keyReport is what an auditor wants to know of a key; it holds nothing secret.
type keyReport struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	State     string `json:"state"`
	// AgeSeconds counts from when it was made.
	AgeSeconds int64  `json:"age_seconds"`
	CreatedAt  string `json:"created_at"`
	// ActiveAt is when it began to sign, or will.
	ActiveAt string `json:"active_at,omitempty"`
	// RetiresAt is when it stops signing, or stopped.
	RetiresAt string `json:"retires_at,omitempty"`
	// VerifiesUntil is until when a token that it signed may be alive, if it
	// signed no more from now on.
	VerifiesUntil string `json:"verifies_until,omitempty"`
}

func reportOf(k *adminv1.Key, now time.Time) keyReport {
	return keyReport{
		ID: k.GetId(), Algorithm: k.GetAlgorithm(),
		State:      strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_")),
		AgeSeconds: int64(now.Sub(k.GetCreatedAt().AsTime()).Seconds()),
		CreatedAt:  when(k.GetCreatedAt()), ActiveAt: when(k.GetActiveAt()),
		RetiresAt: when(k.GetRetiresAt()), VerifiesUntil: when(k.GetVerifiesUntil()),
	}
}

func newKeysList(p *program) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the signing keys, for an auditor",
		Long: `Lists the signing keys: what each is for, its state and age, when it was made, when
it signs and stops signing, and until when a token that it signed may be alive.` + howAdministered,
		Example: `  gatehouse keys list
  gatehouse keys list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.ListKeys(ctx, &adminv1.ListKeysRequest{})
				if err != nil {
					return err
				}
				reports := []keyReport{}
				for _, k := range answer.GetKeys() {
					reports = append(reports, reportOf(k, time.Now()))
				}
				return writeKeys(cmd, reports, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON array instead of a table")
	return c
}

func writeKeys(cmd *cobra.Command, reports []keyReport, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(reports)
	}
	rows := [][]string{{"ID", "ALGORITHM", "STATE", "AGE", "CREATED", "SIGNS FROM", "RETIRES", "TOKENS UNTIL"}}
	for _, k := range reports {
		age := (time.Duration(k.AgeSeconds) * time.Second).String()
		rows = append(rows, []string{k.ID, k.Algorithm, k.State, age, k.CreatedAt, k.ActiveAt, k.RetiresAt, k.VerifiesUntil})
	}
	return table(cmd, rows)
}

func newKeysRotate(p *program) *cobra.Command {
	var algorithm string
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Publish new keys, which sign once everybody can know them",
		Long: `Publishes a new key for every algorithm, or for one. It signs after
issuer.keys.publish_lead, when every gateway has fetched it; nobody is denied
meanwhile.` + howAdministered,
		Example: `  gatehouse keys rotate
  gatehouse keys rotate --algorithm ES256`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.RotateKeys(ctx, &adminv1.RotateKeysRequest{Algorithm: algorithm})
				if err != nil {
					return err
				}
				for _, k := range answer.GetNext() {
					fmt.Fprintln(cmd.OutOrStdout(), "key", k.GetId(), k.GetAlgorithm(), "signs from", when(k.GetActiveAt()))
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&algorithm, "algorithm", "", "rotate the key of this algorithm alone")
	return c
}

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
