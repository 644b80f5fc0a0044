package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newClientUpdate(p *program) *cobra.Command {
	client, standing := &adminv1.Client{}, &standing{}
	settings := settingsOf(client)
	c := &cobra.Command{
		Use:   "update ID",
		Short: "Change a client; what is not named stays",
		Long: `Changes a client. Lists are replaced as a whole. Another --auth-method drops all that
the one before needed, the secret too; back to a secret, gatehouse client secret
makes a new one. --disable refuses the client and revokes all that it was issued.` + howAdministered,
		Example: `  gatehouse client update shop --redirect-uri https://shop.example/callback --scope openid
  gatehouse client update robot --auth-method private_key_jwt --jwks robot.jwks --bind-to-key
  gatehouse client update robot --require-pushed=false
  gatehouse client update robot --disable`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			paths, err := standing.paths(cmd, settings.fields())
			if err != nil {
				return err
			}
			if err := settings.complete(); err != nil {
				return err
			}
			client.Id, client.Disabled = args[0], standing.disable
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				_, err := admin.UpdateClient(ctx, &adminv1.UpdateClientRequest{Client: client, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
				return err
			})
		},
	}
	settings.flags(c)
	standing.flags(c, "revoke all that it was issued")
	return c
}

func newClientShow(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "show ID",
		Short:   "Show a client",
		Long:    `Shows a client. Of its secret there is only a hash, which is not shown.` + howAdministered,
		Example: `  gatehouse client show robot`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.GetClient(ctx, &adminv1.GetClientRequest{Id: args[0]})
				if err != nil {
					return err
				}
				c := answer.GetClient()
				return out.show(cmd, c, slices.Concat(
					[][2]string{{"id", c.GetId()}, {"type", typeName(c.GetType())}},
					settingsOf(c).pairs(),
					[][2]string{{"disabled", yes(c.GetDisabled())}, {"self registered", yes(c.GetSelfRegistered())}, {"created", when(c.GetCreatedAt())}},
				))
			})
		},
	})
}
