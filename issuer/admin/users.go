package admin

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// maxEmail is RFC 5321 §4.5.3.1.
const maxEmail = 254

// CreateUser implements adminv1.AdminServer.
func (s *Service) CreateUser(ctx context.Context, request *adminv1.CreateUserRequest) (*adminv1.CreateUserResponse, error) {
	known, err := s.groupNames(ctx)
	if err != nil {
		return nil, err
	}
	u, vs := s.newUser(request, known)
	if err := invalid(vs); err != nil || request.GetCheckOnly() {
		return &adminv1.CreateUserResponse{User: messageOf(u, known)}, err
	}
	// Looked for first, so that a taken login does not cost a hash.
	if _, err := s.deps.Store.UserByLogin(ctx, u.Login); err == nil {
		return nil, answer(store.ErrConflict, "user", string(u.Login))
	}
	if u.Password == "" && !request.GetNoPassword() {
		if u.Password, err = s.deps.Passwords.Hash(ctx, request.GetPassword()); err != nil {
			return nil, answer(err, "user", string(u.Login))
		}
	}
	if err := s.deps.Store.CreateUser(ctx, u); err != nil {
		return nil, answer(err, "user", string(u.Login))
	}
	stored, err := s.deps.Store.User(ctx, u.ID)
	if err != nil {
		return nil, answer(err, "user", string(u.Login))
	}
	s.deps.Logger.Info("created a user", "user", u.ID)
	return &adminv1.CreateUserResponse{User: messageOf(stored, known)}, nil
}

// newUser is a user as a request describes them, and all that is wrong.
func (s *Service) newUser(request *adminv1.CreateUserRequest, known map[string]string) (store.User, conf.Violations) {
	m := request.GetUser()
	u, vs := s.checkedUser(m, known)
	u.ID, u.Password = store.NewID(store.UserIDPrefix), m.GetPasswordHash()
	if m.GetId() != "" {
		vs.Add("id", m.GetId(), "cannot be chosen", "leave it out: one is made")
	}
	switch {
	case u.Password != "":
		checkHash(&vs, u.Password)
	case !request.GetNoPassword():
		checkPassword(&vs, request.GetPassword(), u.Login)
	}
	return u, vs
}

func checkEmail(vs *conf.Violations, email string) {
	if email == "" {
		return
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > maxEmail {
		vs.Add("email", email, "is no e-mail address", "write NAME@HOST")
	}
}

// checkPassword never shows the password.
func checkPassword(vs *conf.Violations, chosen string, login store.Login) {
	if err := password.Check(chosen); err != nil {
		vs.Add("password", nil, err.Error(), "")
		return
	}
	if login != "" && strings.EqualFold(chosen, string(login)) {
		vs.Add("password", nil, "is the login", "choose another")
	}
}

// messageOf is a user; known are the names of groups by id.
func messageOf(u store.User, known map[string]string) *adminv1.User {
	m := &adminv1.User{
		Id: u.ID, Login: string(u.Login), Name: u.Name, Email: u.Email, Disabled: u.Disabled,
		Roles: u.Roles, AllRoles: u.AllRoles, Attributes: u.Attributes, CreatedAt: timestamppb.New(u.CreatedAt),
	}
	for _, id := range u.Groups {
		if name := known[id]; name != "" {
			m.Groups = append(m.Groups, name)
		}
	}
	slices.Sort(m.Groups)
	return m
}

// ListUsers implements adminv1.AdminServer.
func (s *Service) ListUsers(ctx context.Context, request *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	known, err := s.groupNames(ctx)
	if err != nil {
		return nil, err
	}
	limit := pageSize(request.GetLimit())
	users, err := s.deps.Store.ListUsers(ctx, store.Login(request.GetAfter()), limit)
	if err != nil {
		return nil, answer(err, "user", "")
	}
	response := &adminv1.ListUsersResponse{}
	for _, u := range users {
		m := messageOf(u, known)
		if request.GetWithHashes() {
			m.PasswordHash = u.Password
		}
		if request.GetWithConsents() {
			if m.Consents, err = s.consents(ctx, u.ID); err != nil {
				return nil, err
			}
		}
		response.Users = append(response.Users, m)
	}
	response.Users, response.Next = cut(response.Users, users, limit, func(u store.User) string { return string(u.Login) })
	return response, nil
}

// consents are all that a user has allowed clients.
func (s *Service) consents(ctx context.Context, userID string) (all []*adminv1.Consent, err error) {
	for after := ""; ; {
		some, err := s.deps.Store.ListConsents(ctx, userID, after, maxPage)
		if err != nil {
			return nil, answer(err, "consent", "")
		}
		for _, c := range some {
			all = append(all, consentMessage(c))
		}
		if after = next(some, maxPage, func(c store.Consent) string { return c.ClientID }); after == "" {
			return all, nil
		}
	}
}

// DeleteUser implements adminv1.AdminServer.
func (s *Service) DeleteUser(ctx context.Context, request *adminv1.DeleteUserRequest) (*adminv1.DeleteUserResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	if err := s.deps.Store.DeleteUser(ctx, u.ID); err != nil {
		return nil, answer(err, "user", request.GetLogin())
	}
	s.deps.Logger.Info("deleted a user and revoked what was issued for them", "user", u.ID)
	return &adminv1.DeleteUserResponse{}, nil
}

// RevokeUser implements adminv1.AdminServer.
func (s *Service) RevokeUser(ctx context.Context, request *adminv1.RevokeUserRequest) (*adminv1.RevokeUserResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	if err := s.deps.Store.RevokeUser(ctx, u.ID); err != nil {
		return nil, answer(err, "user", request.GetLogin())
	}
	s.deps.Logger.Info("revoked what was issued for a user", "user", u.ID)
	return &adminv1.RevokeUserResponse{}, nil
}

// SetUserPassword implements adminv1.AdminServer. It ends the user's sessions:
// whoever knew the old password may hold one.
func (s *Service) SetUserPassword(ctx context.Context, request *adminv1.SetUserPasswordRequest) (*adminv1.SetUserPasswordResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	var vs conf.Violations
	checkPassword(&vs, request.GetPassword(), u.Login)
	if err := invalid(vs); err != nil {
		return nil, err
	}
	hash, err := s.deps.Passwords.Hash(ctx, request.GetPassword())
	if err != nil {
		return nil, answer(err, "user", request.GetLogin())
	}
	if err := s.deps.Store.SetPassword(ctx, u.ID, hash); err != nil {
		return nil, answer(err, "user", request.GetLogin())
	}
	s.deps.Logger.Info("replaced a user's password and ended their sessions", "user", u.ID)
	return &adminv1.SetUserPasswordResponse{}, nil
}

// user is the one with a login, however it is typed.
func (s *Service) user(ctx context.Context, typed string) (store.User, error) {
	login, err := store.ParseLogin(typed)
	if err != nil {
		return store.User{}, status.Error(codes.InvalidArgument, fmt.Sprintf("login: %v", err))
	}
	u, err := s.deps.Store.UserByLogin(ctx, login)
	return u, answer(err, "user", typed)
}
