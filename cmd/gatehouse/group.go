package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

func newGroup(p *program) *cobra.Command {
	remove := p.named("remove NAME", "Remove a group; its members lose its roles",
		`Removes a group. Its members stay; the tokens they get from now on are without its
roles.`,
		`  gatehouse group remove staff`,
		func(ctx context.Context, admin adminv1.AdminClient, name string) error {
			_, err := admin.DeleteGroup(ctx, &adminv1.DeleteGroupRequest{Name: name})
			return err
		})
	remove.Aliases = []string{"delete"}
	return parent("group", "Add, list and change groups of people",
		`Administers groups. Whoever is in a group has its roles, beside their own.`+howAdministered,
		`  gatehouse group add staff --role reader
  gatehouse user update ada --group staff`,
		newGroupAdd(p), newGroupList(p), newGroupShow(p), newGroupUpdate(p), remove,
	)
}

func groupFlags(c *cobra.Command, g *adminv1.Group) {
	c.Flags().StringVar(&g.Description, "description", "", "what the group is")
	c.Flags().StringArrayVar(&g.Roles, "role", nil, "a role of its members; may be repeated")
}

func newGroupAdd(p *program) *cobra.Command {
	group := &adminv1.Group{}
	c := &cobra.Command{
		Use:     "add NAME",
		Short:   "Add a group",
		Long:    `Adds a group. Its roles are those of issuer.roles.` + howAdministered,
		Example: `  gatehouse group add staff --role reader --description "Everybody"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			group.Name = args[0]
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				made, err := admin.CreateGroup(ctx, &adminv1.CreateGroupRequest{Group: group})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "group", made.GetGroup().GetName())
				return nil
			})
		},
	}
	groupFlags(c, group)
	return c
}

func newGroupUpdate(p *program) *cobra.Command {
	group := &adminv1.Group{}
	c := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a group; what is not named stays",
		Long: `Changes a group. Lists are replaced as a whole. The tokens that its members get
from now on have the new roles.` + howAdministered,
		Example: `  gatehouse group update staff --role reader --role approver`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			paths := changedFields(cmd, map[string]string{"name": "name", "description": "description", "role": "roles"})
			if len(paths) == 0 {
				return usage("say what to change, with one flag at least")
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				_, err := admin.UpdateGroup(ctx, &adminv1.UpdateGroupRequest{Name: args[0], Group: group, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
				return err
			})
		},
	}
	c.Flags().StringVar(&group.Name, "name", "", "a new name")
	groupFlags(c, group)
	return c
}

func newGroupList(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "list",
		Short:   "List the groups",
		Long:    `Lists the groups with their roles.` + howAdministered,
		Example: `  gatehouse group list`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown := &listing[*adminv1.Group]{out: out, head: []string{"NAME", "ROLES", "DESCRIPTION"}, row: func(g *adminv1.Group) []string {
				return []string{g.GetName(), list(g.GetRoles()), g.GetDescription()}
			}}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				if err := pages(func(after string) (string, error) {
					answer, err := admin.ListGroups(ctx, &adminv1.ListGroupsRequest{After: after})
					if err != nil {
						return "", err
					}
					return answer.GetNext(), shown.add(cmd, answer.GetGroups())
				}); err != nil {
					return err
				}
				return shown.end(cmd)
			})
		},
	})
}

func newGroupShow(p *program) *cobra.Command {
	out := &output{}
	return out.flag(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show a group",
		Long:    `Shows a group.` + howAdministered,
		Example: `  gatehouse group show staff`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				answer, err := admin.GetGroup(ctx, &adminv1.GetGroupRequest{Name: args[0]})
				if err != nil {
					return err
				}
				g := answer.GetGroup()
				return out.show(cmd, g, [][2]string{
					{"name", g.GetName()}, {"description", g.GetDescription()}, {"roles", list(g.GetRoles())}, {"created", when(g.GetCreatedAt())},
				})
			})
		},
	})
}
