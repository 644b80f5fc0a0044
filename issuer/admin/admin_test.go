package admin

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// fixture is a service on a database of its own.
type fixture struct {
	adminv1.AdminClient
	service *Service
	db      *bolt.DB
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "issuer.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ring := newRing(t, dir, db)
	hasher, err := password.NewHasher(2)
	if err != nil {
		t.Fatal(err)
	}
	service, err := New(Config{Scopes: []string{"read:orders", "write:orders"}, Roles: []string{"customer", "approver"}},
		Deps{Store: db, Keys: ring, Passwords: hasher, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{AdminClient: Local(service), service: service, db: db}
}

func newRing(t *testing.T, dir string, db store.Keys) *keys.Ring {
	t.Helper()
	path := filepath.Join(dir, "kek")
	if _, err := keys.EnsureKEK(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keys.LoadKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.New(keys.Config{PublishLead: time.Minute, RotateEvery: time.Hour, Retention: time.Minute},
		keys.Deps{Store: db, KEK: kek, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ring
}

// wants fails unless an error has a code and a message with all of these.
func wants(t *testing.T, what string, err error, code codes.Code, parts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %v", what, err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(status.Convert(err).Message(), part) {
			t.Errorf("%s: %q does not say %q", what, status.Convert(err).Message(), part)
		}
	}
}

func robot() *adminv1.Client {
	return &adminv1.Client{Id: "robot", Type: adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL, Scopes: []string{"read:orders"}}
}

func TestClientLife(t *testing.T) {
	f := newFixture(t)
	made, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()})
	if err != nil {
		t.Fatal(err)
	}
	want := robot()
	want.Name, want.GrantTypes, want.CreatedAt = "robot", []string{"client_credentials"}, made.GetClient().GetCreatedAt()
	if diff := cmp.Diff(want, made.GetClient(), protocmp.Transform()); diff != "" || !want.GetCreatedAt().IsValid() {
		t.Error(diff)
	}
	if c, _ := f.db.Client(t.Context(), "robot"); !c.Secret.Matches(made.GetSecret()) || !strings.HasPrefix(made.GetSecret(), "ghcs_") {
		t.Errorf("the secret %q is not the stored one", made.GetSecret())
	}
	_, err = f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()})
	wants(t, "a taken id", err, codes.AlreadyExists, `"robot"`, "choose another")

	rotated, err := f.RotateClientSecret(t.Context(), &adminv1.RotateClientSecretRequest{Id: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := f.db.Client(t.Context(), "robot"); !c.Secret.Matches(rotated.GetSecret()) || c.Secret.Matches(made.GetSecret()) {
		t.Error("the secret was not replaced")
	}
	if _, err := f.RevokeClient(t.Context(), &adminv1.RevokeClientRequest{Id: "robot"}); err != nil {
		t.Error(err)
	}
	if _, err := f.DeleteClient(t.Context(), &adminv1.DeleteClientRequest{Id: "robot"}); err != nil {
		t.Error(err)
	}
	if last, _ := f.db.LastSequence(t.Context()); last != 2 {
		t.Errorf("revoking and deleting made %d log entries", last)
	}
	for name, call := range map[string]func() error{
		"delete": func() error {
			_, err := f.DeleteClient(t.Context(), &adminv1.DeleteClientRequest{Id: "robot"})
			return err
		},
		"revoke": func() error {
			_, err := f.RevokeClient(t.Context(), &adminv1.RevokeClientRequest{Id: "robot"})
			return err
		},
		"secret": func() error {
			_, err := f.RotateClientSecret(t.Context(), &adminv1.RotateClientSecretRequest{Id: "robot"})
			return err
		},
	} {
		wants(t, name, call(), codes.NotFound, "gatehouse client list")
	}
}

// Public and native clients have no secret; ids are made where there is none.
func TestClientsWithoutSecret(t *testing.T) {
	f := newFixture(t)
	for kind, uri := range map[adminv1.ClientType]string{
		adminv1.ClientType_CLIENT_TYPE_PUBLIC: "https://app.example/cb",
		adminv1.ClientType_CLIENT_TYPE_NATIVE: "http://127.0.0.1/cb",
	} {
		made, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: &adminv1.Client{
			Type: kind, RedirectUris: []string{uri}, Scopes: []string{"openid", "offline_access", "write:orders"},
		}})
		if err != nil {
			t.Errorf("%v: %v", kind, err)
			continue
		}
		c := made.GetClient()
		if made.GetSecret() != "" || !strings.HasPrefix(c.GetId(), "app_") || !slices.Equal(c.GetGrantTypes(), []string{"authorization_code", "refresh_token"}) {
			t.Errorf("%v: %v, secret %q", kind, c, made.GetSecret())
		}
		_, err = f.RotateClientSecret(t.Context(), &adminv1.RotateClientSecretRequest{Id: c.GetId()})
		wants(t, "a secret for it", err, codes.FailedPrecondition, "confidential")
	}
	if list, err := f.ListClients(t.Context(), &adminv1.ListClientsRequest{}); err != nil || len(list.GetClients()) != 2 || list.GetClients()[0].GetType() == 0 {
		t.Errorf("the list is %v, %v", list, err)
	}
}

func TestClientRules(t *testing.T) {
	f := newFixture(t)
	for name, row := range map[string]struct {
		change func(*adminv1.Client)
		says   []string
	}{
		"no type":           {func(c *adminv1.Client) { c.Type = 0 }, []string{"type:", "confidential, public or native"}},
		"id like a user's":  {func(c *adminv1.Client) { c.Id = "usr_1" }, []string{"id:", "usr_"}},
		"id with a space":   {func(c *adminv1.Client) { c.Id = "a b" }, []string{`"a b" is no client id`}},
		"id beyond ASCII":   {func(c *adminv1.Client) { c.Id = "ä" }, []string{"id:"}},
		"long id":           {func(c *adminv1.Client) { c.Id = strings.Repeat("x", 65) }, []string{"id:"}},
		"name with newline": {func(c *adminv1.Client) { c.Name = "a\nb" }, []string{"name:"}},
		"long name":         {func(c *adminv1.Client) { c.Name = strings.Repeat("ä", 101) }, []string{"name:"}},
		"unknown scope":     {func(c *adminv1.Client) { c.Scopes = []string{"read:orders", "admin"} }, []string{`scopes[1]: "admin"`, "issuer.apis"}},
		"a scope twice":     {func(c *adminv1.Client) { c.Scopes = []string{"read:orders", "read:orders"} }, []string{"scopes[1]", "twice"}},
		"implicit":          {func(c *adminv1.Client) { c.GrantTypes = []string{"implicit"} }, []string{`"implicit" is no grant type`}},
		"password":          {func(c *adminv1.Client) { c.GrantTypes = []string{"password"} }, []string{`"password" is no grant type`}},
		"refresh alone":     {func(c *adminv1.Client) { c.GrantTypes = []string{"refresh_token"} }, []string{"nothing to refresh"}},
		"no redirect URI":   {func(c *adminv1.Client) { c.GrantTypes = []string{"authorization_code"} }, []string{"redirect_uris: are missing"}},
		"a useless redirect": {func(c *adminv1.Client) {
			c.GrantTypes, c.RedirectUris = []string{"client_credentials"}, []string{"https://a/cb"}
		}, []string{"of no use"}},
		"a redirect twice":   {func(c *adminv1.Client) { c.RedirectUris = []string{"https://a/cb", "https://a/cb"} }, []string{"redirect_uris[1]", "twice"}},
		"too many redirects": {func(c *adminv1.Client) { c.RedirectUris = slices.Repeat([]string{"https://a/cb"}, 21) }, []string{"too many"}},
		"a public robot": {func(c *adminv1.Client) {
			c.Type, c.GrantTypes = adminv1.ClientType_CLIENT_TYPE_PUBLIC, []string{"client_credentials"}
		}, []string{"needs a secret"}},
		"all at once": {func(c *adminv1.Client) {
			c.Id, c.Scopes, c.RedirectUris = "a b", []string{"x"}, []string{"http://a.example"}
		},
			[]string{"id:", "scopes[0]", "redirect_uris[0]", "\n"}},
	} {
		c := robot()
		row.change(c)
		_, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: c})
		wants(t, name, err, codes.InvalidArgument, row.says...)
	}
	_, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{})
	wants(t, "nothing", err, codes.InvalidArgument)
	if list, err := f.ListClients(t.Context(), &adminv1.ListClientsRequest{}); err != nil || len(list.GetClients()) != 0 {
		t.Errorf("a refused client is there: %v, %v", list, err)
	}
}

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
	want.Id, want.Login, want.CreatedAt = made.GetUser().GetId(), "alice@example.com", made.GetUser().GetCreatedAt()
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

func TestKeyLife(t *testing.T) {
	f := newFixture(t)
	list := func() []*adminv1.Key {
		t.Helper()
		response, err := f.ListKeys(t.Context(), &adminv1.ListKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return response.GetKeys()
	}
	first := list()[0]
	if first.GetState() != adminv1.KeyState_KEY_STATE_ACTIVE || first.GetAlgorithm() != "ES256" || !first.GetActiveAt().IsValid() || first.GetRetiredAt() != nil {
		t.Errorf("the first key is %v", first)
	}
	rotated, err := f.RotateKeys(t.Context(), &adminv1.RotateKeysRequest{})
	if err != nil || rotated.GetNext().GetState() != adminv1.KeyState_KEY_STATE_NEXT || !rotated.GetNext().GetActiveAt().AsTime().After(time.Now()) {
		t.Errorf("the next key is %v, %v", rotated, err)
	}
	if _, err := f.PurgeKey(t.Context(), &adminv1.PurgeKeyRequest{Id: first.GetId()}); err != nil {
		t.Fatal(err)
	}
	for _, k := range list() {
		if k.GetId() == first.GetId() && (k.GetState() != adminv1.KeyState_KEY_STATE_PURGED || k.GetActiveAt() != nil) {
			t.Errorf("the purged key is %v", k)
		}
		if k.GetId() == rotated.GetNext().GetId() && k.GetState() != adminv1.KeyState_KEY_STATE_ACTIVE {
			t.Errorf("its replacement is %v", k)
		}
	}
	_, err = f.PurgeKey(t.Context(), &adminv1.PurgeKeyRequest{Id: "none"})
	wants(t, "an unknown key", err, codes.NotFound, "gatehouse keys list")
}

// Over the socket everything is as it is in process.
func TestServedOverASocket(t *testing.T) {
	f := newFixture(t)
	address := "unix:" + filepath.Join(t.TempDir(), "admin")
	listener, err := serve.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	adminv1.RegisterAdminServer(server, f.service)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.GRPC(ctx, listener, server) }()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	remote := adminv1.NewAdminClient(conn)
	if _, err := remote.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()}); err != nil {
		t.Error(err)
	}
	for name, client := range map[string]adminv1.AdminClient{"socket": remote, "local": f} {
		list, err := client.ListClients(t.Context(), &adminv1.ListClientsRequest{})
		if err != nil || len(list.GetClients()) != 1 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		_, err = client.DeleteClient(t.Context(), &adminv1.DeleteClientRequest{Id: "none"})
		wants(t, name, err, codes.NotFound)
		stopped, stop := context.WithCancel(t.Context())
		stop()
		_, err = client.ListClients(stopped, &adminv1.ListClientsRequest{})
		if code := status.Code(err); code != codes.Canceled {
			t.Errorf("%s: a cancelled call: %v", name, err)
		}
	}
	conn.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What Local returns is a copy, as from a wire.
func TestLocalShares(t *testing.T) {
	f := newFixture(t)
	request := &adminv1.CreateClientRequest{Client: robot()}
	if _, err := f.CreateClient(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(robot(), request.GetClient(), protocmp.Transform()); diff != "" {
		t.Errorf("the request was changed: %s", diff)
	}
	if err := (local{f.service}).Invoke(t.Context(), "/gatehouse.admin.v1.Admin/Nothing", request, request); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method: %v", err)
	}
}
