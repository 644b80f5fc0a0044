package admin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

const goodPassword = "correct horse battery"

func alice() *adminv1.User {
	return &adminv1.User{Login: "Alice@Example.com", Name: "Alice", Email: "alice@example.com", Roles: []string{"customer"}}
}

func TestUserLife(t *testing.T) {
	f := newFixture(t)
	made, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: alice(), Password: goodPassword})
	if err != nil {
		t.Fatal(err)
	}
	want := alice()
	want.AllRoles, want.Id, want.Login, want.CreatedAt = want.Roles, made.GetUser().GetId(), "alice@example.com", made.GetUser().GetCreatedAt()
	if diff := cmp.Diff(want, made.GetUser(), protocmp.Transform()); diff != "" || !strings.HasPrefix(want.GetId(), "usr_") {
		t.Error(diff)
	}
	knows := func(typed string) bool {
		t.Helper()
		u, err := f.db.User(t.Context(), want.GetId())
		if err != nil {
			t.Fatal(err)
		}
		ok, err := f.service.deps.Passwords.Verify(t.Context(), u.Password, typed)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !knows(goodPassword) {
		t.Error("the password is not the one that was set")
	}
	_, err = f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: alice(), Password: goodPassword})
	wants(t, "a taken login", err, codes.AlreadyExists)

	// However the login is typed.
	if _, err := f.SetUserPassword(t.Context(), &adminv1.SetUserPasswordRequest{Login: "ALICE@example.com", Password: "another horse entirely"}); err != nil {
		t.Error(err)
	}
	if knows(goodPassword) || !knows("another horse entirely") {
		t.Error("the password was not replaced")
	}
	if _, err := f.RevokeUser(t.Context(), &adminv1.RevokeUserRequest{Login: "alice@example.com"}); err != nil {
		t.Error(err)
	}
	if _, err := f.DeleteUser(t.Context(), &adminv1.DeleteUserRequest{Login: "alice@example.com"}); err != nil {
		t.Error(err)
	}
	entries, err := f.db.Log(t.Context(), 0, 10)
	if err != nil || len(entries) != 3 {
		t.Errorf("a new password, revoking and deleting made the entries %v, %v", entries, err)
	}
	for i, r := range entries {
		if r.Kind != store.KindSubject || r.ID != want.GetId() {
			t.Errorf("entry %d is %v", i, r)
		}
	}
	for name, call := range map[string]func() error{
		"delete": func() error {
			_, err := f.DeleteUser(t.Context(), &adminv1.DeleteUserRequest{Login: "nobody"})
			return err
		},
		"revoke": func() error {
			_, err := f.RevokeUser(t.Context(), &adminv1.RevokeUserRequest{Login: "nobody"})
			return err
		},
		"password": func() error {
			_, err := f.SetUserPassword(t.Context(), &adminv1.SetUserPasswordRequest{Login: "nobody", Password: goodPassword})
			return err
		},
	} {
		wants(t, name, call(), codes.NotFound, "gatehouse user list")
	}
	if list, err := f.ListUsers(t.Context(), &adminv1.ListUsersRequest{}); err != nil || len(list.GetUsers()) != 0 {
		t.Errorf("the list is %v, %v", list, err)
	}
}

func TestUserRules(t *testing.T) {
	f := newFixture(t)
	for name, row := range map[string]struct {
		change   func(*adminv1.User)
		password string
		says     []string
	}{
		"no login":         {func(u *adminv1.User) { u.Login = "" }, goodPassword, []string{"login:"}},
		"login with space": {func(u *adminv1.User) { u.Login = "a b" }, goodPassword, []string{"login:", "spaces"}},
		"an id":            {func(u *adminv1.User) { u.Id = "usr_1" }, goodPassword, []string{"id:", "one is made"}},
		"e-mail with name": {func(u *adminv1.User) { u.Email = "A <a@b.example>" }, goodPassword, []string{"email:"}},
		"e-mail with CRLF": {func(u *adminv1.User) { u.Email = "a@b.example\r\nBcc: c@d.example" }, goodPassword, []string{"email:"}},
		"unknown role":     {func(u *adminv1.User) { u.Roles = []string{"root"} }, goodPassword, []string{`roles[0]: "root"`, "issuer.roles"}},
		"short password":   {func(*adminv1.User) {}, "elevenchars", []string{"password:", "12"}},
		"no password":      {func(*adminv1.User) {}, "", []string{"password:"}},
		"long password":    {func(*adminv1.User) {}, strings.Repeat("abcdef", 200), []string{"password:", "1024"}},
		"login as such":    {func(*adminv1.User) {}, "ALICE@example.com", []string{"password: is the login"}},
	} {
		u := alice()
		row.change(u)
		_, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: u, Password: row.password})
		wants(t, name, err, codes.InvalidArgument, row.says...)
		if row.password != "" && strings.Contains(status.Convert(err).Message(), row.password) {
			t.Errorf("%s: the message shows the password", name)
		}
	}
	if _, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: alice(), Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	_, err := f.SetUserPassword(t.Context(), &adminv1.SetUserPasswordRequest{Login: "alice@example.com", Password: "short"})
	wants(t, "a short new password", err, codes.InvalidArgument, "password:")
}
