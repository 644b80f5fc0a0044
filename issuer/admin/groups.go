package admin

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

const groupIDPrefix = "grp_"

func groupMessage(g store.Group) *adminv1.Group {
	return &adminv1.Group{Name: g.Name, Description: g.Description, Roles: g.Roles, CreatedAt: timestamppb.New(g.CreatedAt)}
}

// checkGroup reports all that is wrong with a group.
func (s *Service) checkGroup(g store.Group) (vs conf.Violations) {
	if g.Name == "" || len(g.Name) > maxClientID || strings.ContainsFunc(g.Name, func(r rune) bool {
		return r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r))
	}) {
		vs.Add("name", g.Name, "is no group name", "write 1 to 64 letters, digits, dots, dashes and underscores")
	}
	var found conf.Violations
	checkName(&found, g.Description)
	for _, v := range found {
		v.Key = "description"
		vs = append(vs, v)
	}
	unknown(&vs, "roles", g.Roles, s.roles, "is no role", "declare it under issuer.roles")
	return vs
}

// CreateGroup implements adminv1.AdminServer.
func (s *Service) CreateGroup(ctx context.Context, request *adminv1.CreateGroupRequest) (*adminv1.CreateGroupResponse, error) {
	m := request.GetGroup()
	g := store.Group{ID: store.NewID(groupIDPrefix), Name: m.GetName(), Description: m.GetDescription(), Roles: slices.Clone(m.GetRoles())}
	if err := invalid(s.checkGroup(g)); err != nil || request.GetCheckOnly() {
		return &adminv1.CreateGroupResponse{Group: groupMessage(g)}, err
	}
	if err := s.deps.Store.CreateGroup(ctx, g); err != nil {
		return nil, answer(err, "group", g.Name)
	}
	stored, err := s.deps.Store.Group(ctx, g.ID)
	if err != nil {
		return nil, answer(err, "group", g.Name)
	}
	s.deps.Logger.Info("created a group", "group", g.Name)
	return &adminv1.CreateGroupResponse{Group: groupMessage(stored)}, nil
}

// GetGroup implements adminv1.AdminServer.
func (s *Service) GetGroup(ctx context.Context, request *adminv1.GetGroupRequest) (*adminv1.GetGroupResponse, error) {
	g, err := s.deps.Store.GroupByName(ctx, request.GetName())
	if err != nil {
		return nil, answer(err, "group", request.GetName())
	}
	return &adminv1.GetGroupResponse{Group: groupMessage(g)}, nil
}

// ListGroups implements adminv1.AdminServer.
func (s *Service) ListGroups(ctx context.Context, request *adminv1.ListGroupsRequest) (*adminv1.ListGroupsResponse, error) {
	limit := pageSize(request.GetLimit())
	groups, err := s.deps.Store.ListGroups(ctx, request.GetAfter(), limit)
	if err != nil {
		return nil, answer(err, "group", "")
	}
	response := &adminv1.ListGroupsResponse{}
	for _, g := range groups {
		response.Groups = append(response.Groups, groupMessage(g))
	}
	response.Groups, response.Next = cut(response.Groups, groups, limit, func(g store.Group) string { return g.Name })
	return response, nil
}

// UpdateGroup implements adminv1.AdminServer.
func (s *Service) UpdateGroup(ctx context.Context, request *adminv1.UpdateGroupRequest) (*adminv1.UpdateGroupResponse, error) {
	g, err := s.deps.Store.GroupByName(ctx, request.GetName())
	if err != nil {
		return nil, answer(err, "group", request.GetName())
	}
	edit := func(g *store.Group) error {
		m := groupMessage(*g)
		if err := overlay(m, request.GetGroup(), request.GetUpdateMask(), "name", "description", "roles"); err != nil {
			return err
		}
		g.Name, g.Description, g.Roles = m.GetName(), m.GetDescription(), slices.Clone(m.GetRoles())
		return invalid(s.checkGroup(*g))
	}
	if request.GetCheckOnly() {
		return &adminv1.UpdateGroupResponse{Group: groupMessage(g)}, answer(edit(&g), "group", request.GetName())
	}
	if g, err = s.deps.Store.UpdateGroup(ctx, g.ID, edit); err != nil {
		return nil, answer(err, "group", request.GetName())
	}
	s.deps.Logger.Info("changed a group", "group", g.Name)
	return &adminv1.UpdateGroupResponse{Group: groupMessage(g)}, nil
}

// DeleteGroup implements adminv1.AdminServer.
func (s *Service) DeleteGroup(ctx context.Context, request *adminv1.DeleteGroupRequest) (*adminv1.DeleteGroupResponse, error) {
	g, err := s.deps.Store.GroupByName(ctx, request.GetName())
	if err == nil {
		err = s.deps.Store.DeleteGroup(ctx, g.ID)
	}
	if err != nil {
		return nil, answer(err, "group", request.GetName())
	}
	s.deps.Logger.Info("deleted a group", "group", g.Name)
	return &adminv1.DeleteGroupResponse{}, nil
}
