package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// userFields are those that UpdateUser can change.
var userFields = []string{"login", "name", "email", "roles", "groups", "disabled", "password_hash", "attributes"}

// GetUser implements adminv1.AdminServer.
func (s *Service) GetUser(ctx context.Context, request *adminv1.GetUserRequest) (*adminv1.GetUserResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	m, err := s.userMessage(ctx, u)
	return &adminv1.GetUserResponse{User: m}, err
}

// UpdateUser implements adminv1.AdminServer.
func (s *Service) UpdateUser(ctx context.Context, request *adminv1.UpdateUserRequest) (*adminv1.UpdateUserResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	known, err := s.groupNames(ctx)
	if err != nil {
		return nil, err
	}
	edit := func(u *store.User) error {
		m := messageOf(*u, known)
		m.PasswordHash = u.Password
		if err := overlay(m, request.GetUser(), request.GetUpdateMask(), userFields...); err != nil {
			return err
		}
		updated, vs := s.checkedUser(m, known)
		if m.GetPasswordHash() != u.Password {
			checkHash(&vs, m.GetPasswordHash())
		}
		u.Login, u.Name, u.Email, u.Disabled = updated.Login, updated.Name, updated.Email, updated.Disabled
		u.Roles, u.Groups, u.Password, u.Attributes = updated.Roles, updated.Groups, m.GetPasswordHash(), updated.Attributes
		return invalid(vs)
	}
	if request.GetCheckOnly() {
		return &adminv1.UpdateUserResponse{User: messageOf(u, known)}, answer(edit(&u), "user", request.GetLogin())
	}
	u, err = s.deps.Store.UpdateUser(ctx, u.ID, edit)
	if err != nil {
		return nil, answer(err, "user", request.GetLogin())
	}
	s.deps.Logger.Info("changed a user", "user", u.ID)
	return &adminv1.UpdateUserResponse{User: messageOf(u, known)}, nil
}

// checkedUser is a user as a message describes them, and all that is wrong.
func (s *Service) checkedUser(m *adminv1.User, known map[string]string) (u store.User, vs conf.Violations) {
	login, err := store.ParseLogin(m.GetLogin())
	if err != nil {
		vs.Add("login", nil, err.Error(), "")
	}
	checkName(&vs, m.GetName())
	checkEmail(&vs, m.GetEmail())
	unknown(&vs, "roles", m.GetRoles(), s.roles, "is no role", "declare it under issuer.roles")
	var names, ids []string
	for id, name := range known {
		names = append(names, name)
		if slices.Contains(m.GetGroups(), name) {
			ids = append(ids, id)
		}
	}
	unknown(&vs, "groups", m.GetGroups(), names, "is no group", "add it with: gatehouse group add")
	slices.Sort(ids)
	checkAttributes(&vs, m.GetAttributes())
	return store.User{
		Login: login, Name: m.GetName(), Email: m.GetEmail(), Disabled: m.GetDisabled(),
		Roles: slices.Clone(m.GetRoles()), Groups: ids, Attributes: maps.Clone(m.GetAttributes()),
	}, vs
}

// checkHash accepts the hashes that logins are verified with.
func checkHash(vs *conf.Violations, hash string) {
	if err := password.CheckHash(hash); err != nil {
		vs.Add("password_hash", nil, err.Error(), "")
	}
}

// groupNames are the names of all groups by id.
func (s *Service) groupNames(ctx context.Context) (map[string]string, error) {
	names := map[string]string{}
	for after := ""; ; {
		groups, err := s.deps.Store.ListGroups(ctx, after, maxPage)
		if err != nil {
			return nil, answer(err, "group", "")
		}
		for _, g := range groups {
			names[g.ID], after = g.Name, g.Name
		}
		if len(groups) < maxPage {
			return names, nil
		}
	}
}

// userMessage is a user with the names of their groups.
func (s *Service) userMessage(ctx context.Context, u store.User) (*adminv1.User, error) {
	known := map[string]string{}
	for _, id := range u.Groups {
		g, err := s.deps.Store.Group(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading a group: %w", err)
		}
		known[id] = g.Name
	}
	return messageOf(u, known), nil
}
