package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func userFlags(c *cobra.Command, u *adminv1.User) {
	f := c.Flags()
	f.StringVar(&u.Name, "name", "", "the full name")
	f.StringVar(&u.Email, "email", "", "the e-mail address")
	f.StringArrayVar(&u.Roles, "role", nil, "a role; may be repeated")
	f.StringToStringVar(&u.Attributes, "attribute", nil, "what is known of the user beside, as NAME=VALUE, for the claims of APIs; may be repeated")
	f.StringArrayVar(&u.Groups, "group", nil, "a group, whose roles the user has too; may be repeated")
}

func newUserUpdate(p *program) *cobra.Command {
	user, standing := &adminv1.User{}, &standing{}
	c := &cobra.Command{
		Use:   "update LOGIN",
		Short: "Change a user; what is not named stays",
		Long: `Changes a user. Lists are replaced as a whole. The tokens that the user gets from
now on, by refreshing too, have the new roles. --disable ends every session,
grant and token of the user, who cannot log in any more.` + howAdministered,
		Example: `  gatehouse user update ada --group staff --role approver
  gatehouse user update ada --disable`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			paths, err := standing.paths(cmd, map[string]string{
				"login": "login", "name": "name", "email": "email", "role": "roles", "group": "groups", "attribute": "attributes",
			})
			if err != nil {
				return err
			}
			user.Disabled = standing.disable
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				_, err := admin.UpdateUser(ctx, &adminv1.UpdateUserRequest{Login: args[0], User: user, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
				return err
			})
		},
	}
	c.Flags().StringVar(&user.Login, "login", "", "a new login")
	userFlags(c, user)
	standing.flags(c, "end all that the user was given")
	return c
}

func newUserShow(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "show LOGIN",
		Short:   "Show a user",
		Long:    `Shows a user with all roles, those of groups included.` + howAdministered,
		Example: `  gatehouse user show ada`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.GetUser(ctx, &adminv1.GetUserRequest{Login: args[0]})
				if err != nil {
					return err
				}
				u := answer.GetUser()
				return out.show(cmd, u, [][2]string{
					{"login", u.GetLogin()}, {"id", u.GetId()}, {"name", u.GetName()}, {"email", u.GetEmail()},
					{"roles", list(u.GetRoles())}, {"groups", list(u.GetGroups())}, {"all roles", list(u.GetAllRoles())},
					{"attribute", attributes(u.GetAttributes())},
					{"disabled", yes(u.GetDisabled())}, {"created", when(u.GetCreatedAt())},
				})
			})
		},
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
