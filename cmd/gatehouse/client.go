package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

const howAdministered = `

While an issuer runs, its admin socket is used; else the database is opened.`

func newClient(p *program) *cobra.Command {
	remove := p.named("remove ID", "Remove a client and revoke all that it was issued",
		`Removes a client. Its tokens are refused within a second, its refresh tokens at once.`,
		`  gatehouse client remove robot`,
		func(ctx context.Context, admin adminv1.AdminClient, id string) error {
			_, err := admin.DeleteClient(ctx, &adminv1.DeleteClientRequest{Id: id})
			return err
		})
	remove.Aliases = []string{"delete"}
	return parent("client", "Add, list and remove the programs that may ask for tokens",
		`Administers clients: the programs and applications that may ask for tokens.`+howAdministered,
		`  gatehouse client add --id robot --scope read:orders --secret-file robot.secret
  gatehouse client list`,
		newClientAdd(p), newClientList(p), newClientShow(p), newClientUpdate(p), newClientSecret(p), newRegistrationToken(p), remove,
		p.named("revoke ID", "Revoke all that a client was issued; the client stays",
			`Ends every grant and token of a client. It can ask for new ones.`,
			`  gatehouse client revoke robot`,
			func(ctx context.Context, admin adminv1.AdminClient, id string) error {
				_, err := admin.RevokeClient(ctx, &adminv1.RevokeClientRequest{Id: id})
				return err
			}),
	)
}

var clientTypes = map[string]adminv1.ClientType{
	"confidential": adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL,
	"public":       adminv1.ClientType_CLIENT_TYPE_PUBLIC,
	"native":       adminv1.ClientType_CLIENT_TYPE_NATIVE,
}

func newClientAdd(p *program) *cobra.Command {
	client := &adminv1.Client{}
	settings := settingsOf(client)
	var kind, file string
	c := &cobra.Command{
		Use:   "add",
		Short: "Add a client, and show its secret once",
		Long: `Adds a client. The types are confidential (has a secret: a program on a server),
public (has none: an application in a browser) and native (has none: an installed
application, logged in through a loopback redirect).

A confidential client without redirect URIs gets tokens for itself
(client_credentials); every other logs people in (authorization_code and
refresh_token).` + howAdministered,
		Example: `  gatehouse client add --id robot --scope read:orders --secret-file robot.secret
  gatehouse client add --id shop --redirect-uri https://shop.example/callback --scope openid --scope read:orders
  gatehouse client add --id cli --type native --scope openid --scope read:orders
  gatehouse client add --id signer --scope read:orders --auth-method private_key_jwt --jwks signer.jwks
  gatehouse client add --id robot --scope read:orders --auth-method self_signed_tls_client_auth --tls-certificate robot.crt --bind-to-certificate`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := completeClient(client, kind); err != nil {
				return err
			}
			if err := settings.complete(); err != nil {
				return err
			}
			secret, err := openSecretFile(file)
			if err != nil {
				return err
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				made, err := admin.CreateClient(ctx, &adminv1.CreateClientRequest{Client: client})
				if err != nil {
					secret.discard()
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "client", made.GetClient().GetId())
				return secret.write(cmd, made.GetSecret())
			})
		},
	}
	settings.flags(c)
	f := c.Flags()
	f.StringVar(&client.Id, "id", "", "its id; one is made when there is none")
	f.StringVar(&kind, "type", "confidential", "confidential, public or native")
	f.StringVar(&file, "secret-file", "", "write the secret into this file (0600) instead of showing it")
	return c
}

// completeClient fills in what follows from the type.
func completeClient(client *adminv1.Client, kind string) error {
	known, ok := clientTypes[kind]
	if !ok {
		return usage(fmt.Sprintf("--type %q is none: write confidential, public or native", kind))
	}
	client.Type = known
	logsIn := len(client.GrantTypes) == 0 || slices.Contains(client.GrantTypes, "authorization_code")
	if kind == "native" && logsIn && len(client.RedirectUris) == 0 {
		client.RedirectUris = []string{"http://127.0.0.1/callback"}
	}
	if len(client.GrantTypes) == 0 {
		client.GrantTypes = []string{"authorization_code", "refresh_token"}
		if kind == "confidential" && len(client.RedirectUris) == 0 {
			client.GrantTypes = []string{"client_credentials"}
		}
	}
	return nil
}

func newClientList(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "list",
		Short:   "List the clients",
		Long:    `Lists the clients with their types, grants and scopes.` + howAdministered,
		Example: `  gatehouse client list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown := &listing[*adminv1.Client]{out: out, head: []string{"ID", "TYPE", "GRANTS", "SCOPES", "DISABLED"}, row: func(c *adminv1.Client) []string {
				return []string{c.GetId(), typeName(c.GetType()), list(c.GetGrantTypes()), list(c.GetScopes()), yes(c.GetDisabled())}
			}}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				if err := pages(func(after string) (string, error) {
					answer, err := admin.ListClients(ctx, &adminv1.ListClientsRequest{After: after})
					if err != nil {
						return "", err
					}
					return answer.GetNext(), shown.add(cmd, answer.GetClients())
				}); err != nil {
					return err
				}
				return shown.end(cmd)
			})
		},
	})
}

func typeName(t adminv1.ClientType) string {
	return strings.ToLower(strings.TrimPrefix(t.String(), "CLIENT_TYPE_"))
}

func newClientSecret(p *program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "secret ID",
		Short:   "Give a client a new secret; the old one is refused at once",
		Long:    `Replaces the secret of a confidential client. The old one is refused at once.` + howAdministered,
		Example: `  gatehouse client secret robot --secret-file robot.secret`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := openSecretFile(file)
			if err != nil {
				return err
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.RotateClientSecret(ctx, &adminv1.RotateClientSecretRequest{Id: args[0]})
				if err != nil {
					secret.discard()
					return err
				}
				return secret.write(cmd, answer.GetSecret())
			})
		},
	}
	c.Flags().StringVar(&file, "secret-file", "", "write the secret into this file (0600) instead of showing it")
	return c
}
