package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newRegistrationToken(p *program) *cobra.Command {
	remove := p.named("remove ID", "Remove an initial access token; clients made with it stay",
		`Removes an initial access token. Clients that were registered with it stay.`,
		`  gatehouse client registration-token remove rgt_8Jx`,
		func(ctx context.Context, admin adminv1.AdminClient, id string) error {
			_, err := admin.DeleteRegistrationToken(ctx, &adminv1.DeleteRegistrationTokenRequest{Id: id})
			return err
		})
	remove.Aliases = []string{"delete"}
	return parent("registration-token", "Let programs register clients by themselves",
		`Administers initial access tokens (RFC 7591): whoever holds one may register so many
clients, within the policy that is attached to it. It needs
issuer.registration.access: token (or open).`+howAdministered,
		`  gatehouse client registration-token add --grant client_credentials --scope read:orders --uses 10`,
		newRegistrationTokenAdd(p), newRegistrationTokenList(p), remove,
	)
}

func newRegistrationTokenAdd(p *program) *cobra.Command {
	token := &adminv1.RegistrationToken{}
	var file string
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "add",
		Short: "Make an initial access token, and show it once",
		Long: `Makes an initial access token. What clients may register with it is bounded by the
grants, scopes, redirect hosts and schemes given here; nothing is allowed that is
not named.` + howAdministered,
		Example: `  gatehouse client registration-token add --grant client_credentials --scope read:orders
  gatehouse client registration-token add --grant authorization_code --redirect-host '*.dev.example' --scope openid --uses 50 --lifetime 720h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := openSecretFile(file)
			if err != nil {
				return err
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				made, err := admin.CreateRegistrationToken(ctx, &adminv1.CreateRegistrationTokenRequest{Token: token, Lifetime: durationpb.New(lifetime)})
				if err != nil {
					secret.discard()
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "registration-token", made.GetToken().GetId(), "until", when(made.GetToken().GetExpiresAt()))
				return secret.write(cmd, made.GetSecret())
			})
		},
	}
	f := c.Flags()
	f.StringVar(&token.Note, "note", "", "what it is for")
	f.StringArrayVar(&token.GrantTypes, "grant", nil, "a grant type that may be registered; may be repeated")
	f.StringArrayVar(&token.Scopes, "scope", nil, "a scope that may be registered; may be repeated")
	f.StringArrayVar(&token.RedirectHosts, "redirect-host", nil, "a host that redirect URIs may name, *.HOST for its subdomains; may be repeated")
	f.StringArrayVar(&token.RedirectSchemes, "redirect-scheme", nil, "a private-use scheme that redirect URIs of native clients may have; may be repeated")
	f.StringArrayVar(&token.Require, "require", nil, "what each client gets, whether it asks or not: require_pushed_authorization_requests, dpop_bound_access_tokens or tls_client_certificate_bound_access_tokens; may be repeated")
	f.Int32Var(&token.UsesLeft, "uses", 1, "how many clients it may register")
	f.DurationVar(&lifetime, "lifetime", 24*time.Hour, "how long it may be used")
	f.StringVar(&file, "secret-file", "", "write the token into this file (0600) instead of showing it")
	return c
}

func newRegistrationTokenList(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "list",
		Short:   "List the initial access tokens",
		Long:    `Lists the initial access tokens that have not expired.` + howAdministered,
		Example: `  gatehouse client registration-token list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown := &listing[*adminv1.RegistrationToken]{out: out, head: []string{"ID", "USES LEFT", "EXPIRES", "GRANTS", "SCOPES", "HOSTS", "NOTE"}, row: func(r *adminv1.RegistrationToken) []string {
				return []string{
					r.GetId(), strconv.Itoa(int(r.GetUsesLeft())), when(r.GetExpiresAt()), list(r.GetGrantTypes()), list(r.GetScopes()), list(r.GetRedirectHosts()), r.GetNote(),
				}
			}}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.ListRegistrationTokens(ctx, &adminv1.ListRegistrationTokensRequest{})
				if err != nil {
					return err
				}
				if err := shown.add(cmd, answer.GetTokens()); err != nil {
					return err
				}
				return shown.end(cmd)
			})
		},
	})
}
