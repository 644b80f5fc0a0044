package main

import (
	"context"

	"github.com/spf13/cobra"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newSession(p *program) *cobra.Command {
	out := &output{}
	return parent("session", "List and end people's logins",
		`Administers sessions: people's logins in their browsers.`+howAdministered,
		`  gatehouse session list ada`,
		out.flag(&cobra.Command{
			Use:     "list LOGIN",
			Short:   "List a user's sessions",
			Long:    `Lists where a user is logged in.` + howAdministered,
			Example: `  gatehouse session list ada`,
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				shown := &listing[*adminv1.Session]{out: out, head: []string{"ID", "LOGGED IN", "ENDS"}, row: func(s *adminv1.Session) []string {
					return []string{s.GetId(), when(s.GetAuthTime()), when(s.GetExpiresAt())}
				}}
				return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
					if err := pages(func(after string) (string, error) {
						answer, err := admin.ListSessions(ctx, &adminv1.ListSessionsRequest{Login: args[0], After: after})
						if err != nil {
							return "", err
						}
						return answer.GetNext(), shown.add(cmd, answer.GetSessions())
					}); err != nil {
						return err
					}
					return shown.end(cmd)
				})
			},
		}),
		p.named("revoke ID", "End a session, its grants and their tokens",
			`Ends a session, the grants made in it and their tokens. To end all of a user's, use
gatehouse user revoke.`,
			`  gatehouse session revoke ses_8Jx`,
			func(ctx context.Context, admin adminv1.AdminClient, id string) error {
				_, err := admin.RevokeSession(ctx, &adminv1.RevokeSessionRequest{Id: id})
				return err
			}),
	)
}

func newConsent(p *program) *cobra.Command {
	out := &output{}
	return parent("consent", "List and take back what people have allowed clients",
		`Administers consents: what people have allowed clients, so that they are not asked
again.`+howAdministered,
		`  gatehouse consent list ada`,
		out.flag(&cobra.Command{
			Use:     "list LOGIN",
			Short:   "List what a user has allowed clients",
			Long:    `Lists what a user has allowed clients.` + howAdministered,
			Example: `  gatehouse consent list ada`,
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				shown := &listing[*adminv1.Consent]{out: out, head: []string{"CLIENT", "SCOPES", "GIVEN"}, row: func(c *adminv1.Consent) []string {
					return []string{c.GetClientId(), list(c.GetScopes()), when(c.GetGivenAt())}
				}}
				return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
					if err := pages(func(after string) (string, error) {
						answer, err := admin.ListConsents(ctx, &adminv1.ListConsentsRequest{Login: args[0], After: after})
						if err != nil {
							return "", err
						}
						return answer.GetNext(), shown.add(cmd, answer.GetConsents())
					}); err != nil {
						return err
					}
					return shown.end(cmd)
				})
			},
		}),
		&cobra.Command{
			Use:   "revoke LOGIN CLIENT",
			Short: "Forget what a user has allowed a client",
			Long: `Forgets a consent: the user is asked again at the next login through the client.
What was granted under it stays; end that with gatehouse user revoke.` + howAdministered,
			Example: `  gatehouse consent revoke ada shop`,
			Args:    cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
					_, err := admin.RevokeConsent(ctx, &adminv1.RevokeConsentRequest{Login: args[0], ClientId: args[1]})
					return err
				})
			},
		},
	)
}
