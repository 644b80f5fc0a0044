package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newUser(p *program) *cobra.Command {
	remove := p.named("remove LOGIN", "Remove a user and end all that they were given",
		`Removes a user. Their sessions end at once, their tokens are refused within a second.`,
		`  gatehouse user remove ada`,
		func(ctx context.Context, admin adminv1.AdminClient, login string) error {
			_, err := admin.DeleteUser(ctx, &adminv1.DeleteUserRequest{Login: login})
			return err
		})
	remove.Aliases = []string{"delete"}
	return parent("user", "Add, list and remove the people who log in",
		`Administers users: the people who log in. What they may do follows from their
roles (issuer.roles) and those of their groups.`+howAdministered,
		`  gatehouse user add ada --role reader
  gatehouse user list`,
		newUserAdd(p), newUserList(p), newUserShow(p), newUserUpdate(p), newUserPassword(p), remove,
		p.named("revoke LOGIN", "End every session, grant and token of a user; the user stays",
			`Ends every session, grant and token of a user, who can log in again.`,
			`  gatehouse user revoke ada`,
			func(ctx context.Context, admin adminv1.AdminClient, login string) error {
				_, err := admin.RevokeUser(ctx, &adminv1.RevokeUserRequest{Login: login})
				return err
			}),
	)
}

func newUserAdd(p *program) *cobra.Command {
	user := &adminv1.User{}
	c := &cobra.Command{
		Use:   "add LOGIN",
		Short: "Add a user",
		Long: `Adds a user. The password is asked for on the terminal, or read as the first line
of standard input; it is never an argument.` + howAdministered,
		Example: `  gatehouse user add ada --name "Ada Lovelace" --role reader`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			user.Login = args[0]
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				made, err := admin.CreateUser(ctx, &adminv1.CreateUserRequest{User: user, Password: password})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "user", made.GetUser().GetLogin(), made.GetUser().GetId())
				return nil
			})
		},
	}
	userFlags(c, user)
	return c
}

func newUserList(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "list",
		Short:   "List the users",
		Long:    `Lists the users with their ids, roles and groups.` + howAdministered,
		Example: `  gatehouse user list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown := &listing[*adminv1.User]{out: out, head: []string{"LOGIN", "ID", "NAME", "ROLES", "GROUPS", "DISABLED"}, row: func(u *adminv1.User) []string {
				return []string{u.GetLogin(), u.GetId(), u.GetName(), list(u.GetRoles()), list(u.GetGroups()), yes(u.GetDisabled())}
			}}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				if err := pages(func(after string) (string, error) {
					answer, err := admin.ListUsers(ctx, &adminv1.ListUsersRequest{After: after})
					if err != nil {
						return "", err
					}
					return answer.GetNext(), shown.add(cmd, answer.GetUsers())
				}); err != nil {
					return err
				}
				return shown.end(cmd)
			})
		},
	})
}

func newUserPassword(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "password LOGIN",
		Short: "Set a user's password, which ends their sessions",
		Long: `Sets a new password, asked for on the terminal or read as the first line of
standard input, and ends every session, grant and token of the user.` + howAdministered,
		Example: `  gatehouse user password ada`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				_, err := admin.SetUserPassword(ctx, &adminv1.SetUserPasswordRequest{Login: args[0], Password: password})
				return err
			})
		},
	}
}
