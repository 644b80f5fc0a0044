package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// clientFlagFields are the fields that the flags of a client set.
var clientFlagFields = map[string]string{
	"name": "name", "scope": "scopes", "redirect-uri": "redirect_uris", "grant": "grant_types",
	"post-logout-redirect-uri": "post_logout_redirect_uris", "backchannel-logout-uri": "backchannel_logout_uri",
	"access-token-lifetime": "access_token_lifetime", "id-token-algorithm": "id_token_algorithm",
}

// clientFlags are the flags that adding and changing a client share.
func clientFlags(c *cobra.Command, client *adminv1.Client, lifetime *time.Duration) {
	f := c.Flags()
	f.StringVar(&client.Name, "name", "", "its name, as people are shown it when they consent (default: its id)")
	f.StringArrayVar(&client.Scopes, "scope", nil, "a scope that it may ask for; may be repeated")
	f.StringArrayVar(&client.RedirectUris, "redirect-uri", nil, "where people come back to after the login; may be repeated (native: http://127.0.0.1/callback)")
	f.StringArrayVar(&client.PostLogoutRedirectUris, "post-logout-redirect-uri", nil, "where people may come back to after a logout; may be repeated")
	f.StringVar(&client.BackchannelLogoutUri, "backchannel-logout-uri", "", "what is told, by a logout token, when a session of the client's ends")
	f.StringArrayVar(&client.GrantTypes, "grant", nil, "a grant type that it may use; may be repeated")
	f.DurationVar(lifetime, "access-token-lifetime", 0, "the longest life of its access tokens (default: as long as their APIs allow)")
	f.StringVar(&client.IdTokenAlgorithm, "id-token-algorithm", "", "what signs its ID tokens, among issuer.keys.algorithms (default ES256)")
}

func newClientUpdate(p *program) *cobra.Command {
	client, standing := &adminv1.Client{}, &standing{}
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "update ID",
		Short: "Change a client; what is not named stays",
		Long: `Changes a client. Lists are replaced as a whole. --disable refuses the client and
revokes all that it was issued.` + howAdministered,
		Example: `  gatehouse client update shop --redirect-uri https://shop.example/callback --scope openid
  gatehouse client update robot --disable`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			paths, err := standing.paths(cmd, clientFlagFields)
			if err != nil {
				return err
			}
			client.Id, client.Disabled = args[0], standing.disable
			if lifetime != 0 {
				client.AccessTokenLifetime = durationpb.New(lifetime)
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				_, err := admin.UpdateClient(ctx, &adminv1.UpdateClientRequest{Client: client, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
				return err
			})
		},
	}
	clientFlags(c, client, &lifetime)
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
				return out.show(cmd, answer.GetClient(), clientPairs(answer.GetClient()))
			})
		},
	})
}

// clientPairs are a client's fields for people.
func clientPairs(c *adminv1.Client) [][2]string {
	values := map[string]string{
		"name": c.GetName(), "scope": list(c.GetScopes()), "redirect-uri": list(c.GetRedirectUris()), "grant": list(c.GetGrantTypes()),
		"post-logout-redirect-uri": list(c.GetPostLogoutRedirectUris()), "backchannel-logout-uri": c.GetBackchannelLogoutUri(),
		"id-token-algorithm": c.GetIdTokenAlgorithm(), "disabled": yes(c.GetDisabled()), "self registered": yes(c.GetSelfRegistered()),
		"created": when(c.GetCreatedAt()),
	}
	if c.GetAccessTokenLifetime() != nil {
		values["access-token-lifetime"] = c.GetAccessTokenLifetime().AsDuration().String()
	}
	pairs := [][2]string{{"id", c.GetId()}, {"type", typeName(c.GetType())}}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		pairs = append(pairs, [2]string{key, values[key]})
	}
	return pairs
}
