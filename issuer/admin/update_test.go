package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

func (f fixture) group(t *testing.T, name string, roles ...string) {
	t.Helper()
	if _, err := f.CreateGroup(t.Context(), &adminv1.CreateGroupRequest{Group: &adminv1.Group{Name: name, Roles: roles}}); err != nil {
		t.Fatal(err)
	}
}

func TestClientUpdate(t *testing.T) {
	f := newFixture(t)
	made, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()})
	if err != nil {
		t.Fatal(err)
	}
	update := func(c *adminv1.Client, paths ...string) (*adminv1.Client, error) {
		c.Id = "robot"
		answer, err := f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: c, UpdateMask: mask(paths...)})
		return answer.GetClient(), err
	}
	c, err := update(&adminv1.Client{Name: "The robot", Scopes: []string{"write:orders"}}, "name")
	if err != nil || c.GetName() != "The robot" || !slices.Equal(c.GetScopes(), []string{"read:orders"}) {
		t.Errorf("only the name was to change: %v, %v", c, err)
	}
	if c, err = update(&adminv1.Client{Scopes: []string{"write:orders"}, Disabled: true}, "scopes", "disabled"); err != nil || !c.GetDisabled() || c.GetName() != "The robot" {
		t.Errorf("then scopes and standing: %v, %v", c, err)
	}
	if stored, _ := f.db.Client(t.Context(), "robot"); !stored.Secret.Matches(made.GetSecret()) || !stored.Disabled || stored.CreatedAt.IsZero() {
		t.Errorf("the secret or the rest is lost: %+v", stored)
	}
	for path, row := range map[string]struct {
		client *adminv1.Client
		says   string
	}{
		"scopes":          {&adminv1.Client{Scopes: []string{"fly"}}, `scopes[0]: "fly"`},
		"grant_types":     {&adminv1.Client{GrantTypes: []string{"implicit"}}, "no grant type"},
		"redirect_uris":   {&adminv1.Client{RedirectUris: []string{"https://a.example/"}}, "of no use"},
		"type":            {&adminv1.Client{Type: adminv1.ClientType_CLIENT_TYPE_PUBLIC}, "type: cannot be changed"},
		"secret_hash":     {&adminv1.Client{SecretHash: "00"}, "cannot be changed"},
		"self_registered": {&adminv1.Client{SelfRegistered: true}, "cannot be changed"},
		"nonsense":        {&adminv1.Client{}, "nonsense: cannot be changed"},
	} {
		_, err := update(row.client, path)
		wants(t, path, err, codes.InvalidArgument, row.says)
	}
	_, err = update(&adminv1.Client{})
	wants(t, "no mask", err, codes.InvalidArgument, "update_mask")
	_, err = f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: "none"}, UpdateMask: mask("name")})
	wants(t, "nobody", err, codes.NotFound, "gatehouse client list")

	chosen := strings.Repeat("s", 32)
	if _, err := f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: "robot"}, Secret: chosen}); err != nil {
		t.Error(err)
	}
	if stored, _ := f.db.Client(t.Context(), "robot"); !stored.Secret.Matches(chosen) {
		t.Error("the chosen secret is not the one")
	}
	_, err = f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: "robot"}, Secret: "short"})
	wants(t, "a short secret", err, codes.InvalidArgument, "secret:", "openssl")
}

func TestUserUpdate(t *testing.T) {
	f := newFixture(t)
	f.group(t, "staff", "approver")
	if _, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: alice(), Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	update := func(u *adminv1.User, paths ...string) (*adminv1.User, error) {
		answer, err := f.UpdateUser(t.Context(), &adminv1.UpdateUserRequest{Login: "ALICE@example.com", User: u, UpdateMask: mask(paths...)})
		return answer.GetUser(), err
	}
	u, err := update(&adminv1.User{Groups: []string{"staff"}}, "groups")
	if err != nil || !slices.Equal(u.GetAllRoles(), []string{"approver", "customer"}) || !slices.Equal(u.GetGroups(), []string{"staff"}) {
		t.Errorf("in the group: %v, %v", u, err)
	}
	if last, _ := f.db.LastSequence(t.Context()); last != 0 {
		t.Error("joining a group logged the user out")
	}
	if u, err = update(&adminv1.User{Disabled: true}, "disabled"); err != nil || !u.GetDisabled() || u.GetName() != "Alice" {
		t.Errorf("disabled: %v, %v", u, err)
	}
	for path, row := range map[string]struct {
		user *adminv1.User
		says string
	}{
		"roles":         {&adminv1.User{Roles: []string{"root"}}, `roles[0]: "root"`},
		"groups":        {&adminv1.User{Groups: []string{"ghosts"}}, `groups[0]: "ghosts"`},
		"email":         {&adminv1.User{Email: "nobody"}, "email:"},
		"login":         {&adminv1.User{}, "login:"},
		"password_hash": {&adminv1.User{PasswordHash: "plain"}, "password_hash:"},
		"id":            {&adminv1.User{Id: "usr_x"}, "cannot be changed"},
		"all_roles":     {&adminv1.User{AllRoles: []string{"root"}}, "cannot be changed"},
	} {
		_, err := update(row.user, path)
		wants(t, path, err, codes.InvalidArgument, row.says)
	}
	got, err := f.GetUser(t.Context(), &adminv1.GetUserRequest{Login: "alice@example.com"})
	if err != nil || got.GetUser().GetPasswordHash() != "" || !slices.Equal(got.GetUser().GetGroups(), []string{"staff"}) {
		t.Errorf("read: %v, %v", got, err)
	}
	if u, err = update(&adminv1.User{Login: "alicia"}, "login"); err != nil || u.GetLogin() != "alicia" {
		t.Errorf("renamed: %v, %v", u, err)
	}
}

// A user can be made with a hash from elsewhere, or without a password; the hash
// is answered only to who asks for it.
func TestUsersWithHashes(t *testing.T) {
	f := newFixture(t)
	const imported = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	create := func(login, hash string, none bool) error {
		_, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: &adminv1.User{Login: login, PasswordHash: hash}, NoPassword: none})
		return err
	}
	if err := create("ada", imported, false); err != nil {
		t.Error(err)
	}
	if err := create("bob", "", true); err != nil {
		t.Error(err)
	}
	wants(t, "a bad hash", create("eve", "$2a$31$"+imported[7:], false), codes.InvalidArgument, "password_hash: it is no bcrypt hash")
	for withHashes, want := range map[bool]string{true: imported, false: ""} {
		list, err := f.ListUsers(t.Context(), &adminv1.ListUsersRequest{WithHashes: withHashes})
		if err != nil || len(list.GetUsers()) != 2 || list.GetUsers()[0].GetPasswordHash() != want {
			t.Errorf("with hashes %v: %v, %v", withHashes, list, err)
		}
	}
}

func TestGroupLife(t *testing.T) {
	f := newFixture(t)
	f.group(t, "staff", "customer")
	_, err := f.CreateGroup(t.Context(), &adminv1.CreateGroupRequest{Group: &adminv1.Group{Name: "staff"}})
	wants(t, "a taken name", err, codes.AlreadyExists, `"staff"`)
	for name, g := range map[string]*adminv1.Group{
		"name":        {Name: "a b"},
		"roles[0]":    {Name: "x", Roles: []string{"root"}},
		"description": {Name: "x", Description: "a\nb"},
	} {
		_, err := f.CreateGroup(t.Context(), &adminv1.CreateGroupRequest{Group: g})
		wants(t, name, err, codes.InvalidArgument, name+":")
	}
	updated, err := f.UpdateGroup(t.Context(), &adminv1.UpdateGroupRequest{Name: "staff", Group: &adminv1.Group{Name: "people"}, UpdateMask: mask("name")})
	if err != nil || updated.GetGroup().GetName() != "people" || !slices.Equal(updated.GetGroup().GetRoles(), []string{"customer"}) {
		t.Errorf("renamed: %v, %v", updated, err)
	}
	_, err = f.UpdateGroup(t.Context(), &adminv1.UpdateGroupRequest{Name: "people", Group: &adminv1.Group{Roles: []string{"root"}}, UpdateMask: mask("roles")})
	wants(t, "an unknown role", err, codes.InvalidArgument, "roles[0]")
	if _, err := f.DeleteGroup(t.Context(), &adminv1.DeleteGroupRequest{Name: "people"}); err != nil {
		t.Error(err)
	}
	_, err = f.GetGroup(t.Context(), &adminv1.GetGroupRequest{Name: "people"})
	wants(t, "a deleted group", err, codes.NotFound, "gatehouse group list")
}

// Lists come in pages, so that no number of records breaks gRPC's limit.
func TestListsArePaged(t *testing.T) {
	f := newFixture(t)
	for i := range maxPage + 7 {
		if err := f.db.CreateUser(t.Context(), store.User{ID: fmt.Sprint("usr_", i), Login: store.Login(fmt.Sprint("user", i))}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	requests := 0
	for after := ""; ; {
		list, err := f.ListUsers(t.Context(), &adminv1.ListUsersRequest{After: after, Limit: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		requests++
		for _, u := range list.GetUsers() {
			seen[u.GetLogin()] = true
		}
		if after = list.GetNext(); after == "" {
			break
		}
	}
	if len(seen) != maxPage+7 || requests != 2 {
		t.Errorf("%d users in %d requests", len(seen), requests)
	}
}

// However large its records, a page fits a message of gRPC's 4 MiB.
func TestPagesFitAMessage(t *testing.T) {
	f := newFixture(t)
	const clients = 40
	long := strings.Repeat("x", maxRedirectURI-len("https://app.example/00/"))
	for i := range clients {
		c := store.Client{ID: fmt.Sprintf("app%02d", i), Type: store.Public, GrantTypes: []string{authorizationCode}}
		for j := range maxRedirectURIs {
			c.RedirectURIs = append(c.RedirectURIs, fmt.Sprintf("https://app.example/%02d/%s", j, long))
			c.PostLogoutRedirectURIs = c.RedirectURIs
		}
		if err := f.db.CreateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	requests := 0
	for after := ""; ; requests++ {
		list, err := f.ListClients(t.Context(), &adminv1.ListClientsRequest{After: after})
		if err != nil {
			t.Fatal(err)
		}
		if size := proto.Size(list); size > 4<<20 {
			t.Fatalf("an answer of %d bytes", size)
		}
		for _, c := range list.GetClients() {
			seen = append(seen, c.GetId())
		}
		if after = list.GetNext(); after == "" {
			break
		}
	}
	if len(seen) != clients || !slices.IsSorted(seen) || requests < 2 {
		t.Errorf("%d clients in %d requests: %v", len(seen), requests, seen)
	}
}

// manyUsers is a store with more people than anybody wants to make one by one.
type manyUsers struct {
	*bolt.DB
	logins []store.Login
}

// ListUsers is what bolt.DB does, from memory.
func (m manyUsers) ListUsers(_ context.Context, after store.Login, limit int) (some []store.User, err error) {
	from, found := slices.BinarySearch(m.logins, after)
	if found {
		from++
	}
	for _, login := range m.logins[from:min(from+limit, len(m.logins))] {
		some = append(some, store.User{ID: "usr_" + string(login), Login: login, Name: strings.Repeat("é", maxName), Email: strings.Repeat("e", maxEmail), Roles: []string{"customer"}, Password: strings.Repeat("$", 120)})
	}
	return some, nil
}

// 100,000 users are listed each once, in pages of which none is too large.
func TestAHundredThousandUsersAreListed(t *testing.T) {
	f := newFixture(t)
	many := manyUsers{DB: f.db}
	for i := range 100_000 {
		many.logins = append(many.logins, store.Login(fmt.Sprintf("user%06d", i)))
	}
	f.service.deps.Store = many
	seen := 0
	for after := ""; ; {
		list, err := f.ListUsers(t.Context(), &adminv1.ListUsersRequest{After: after, WithHashes: true, WithConsents: true})
		if err != nil {
			t.Fatal(err)
		}
		if size := proto.Size(list); size > 4<<20 {
			t.Fatalf("an answer of %d bytes", size)
		}
		for _, u := range list.GetUsers() {
			if u.GetLogin() != string(many.logins[seen]) {
				t.Fatalf("number %d is %q", seen, u.GetLogin())
			}
			seen++
		}
		if after = list.GetNext(); after == "" {
			break
		}
	}
	if seen != len(many.logins) {
		t.Errorf("%d users", seen)
	}
}

// How a client proves itself can be replaced, and what its tokens are bound to.
func TestProofUpdate(t *testing.T) {
	f := newFixture(t)
	if _, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()}); err != nil {
		t.Fatal(err)
	}
	change := &adminv1.Client{
		Id: "robot", Proof: &adminv1.ClientProof{Method: tlsClientAuth, SanDns: "robot.example"}, RequirePushed: true, BindToKey: true, BindToCertificate: true,
	}
	if _, err := f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: change, UpdateMask: mask("proof", "require_pushed", "bind_to_key", "bind_to_certificate")}); err != nil {
		t.Fatal(err)
	}
	c, err := f.db.Client(t.Context(), "robot")
	if err != nil || c.Proof.Method != tlsClientAuth || c.Proof.Name.DNS != "robot.example" || !c.RequirePushed || !c.BindToKey || !c.BindToCertificate {
		t.Errorf("changed: %+v, %v", c, err)
	}
	change.Proof = &adminv1.ClientProof{Method: privateKeyJWT}
	_, err = f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: change, UpdateMask: mask("proof")})
	wants(t, "a proof without keys", err, codes.InvalidArgument, "proof.jwks")
}

// Fields of a proof are changed one by one, on what is stored at that moment: a
// key that the client replaced meanwhile because it leaked must not come back.
func TestProofFieldsUpdate(t *testing.T) {
	f := newFixture(t)
	keys := func() []byte { return []byte(tokentest.JWKS(tokentest.NewKey("ES256"))) }
	leaked, fresh, given := keys(), keys(), keys()
	c := robot()
	c.Proof = &adminv1.ClientProof{Method: privateKeyJWT, Jwks: leaked}
	if _, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: c}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.UpdateClient(t.Context(), "robot", func(c *store.Client) error { c.Proof.JWKS = fresh; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		given *adminv1.ClientProof
		paths []string
		want  *adminv1.ClientProof
		wrong string
	}{
		{"algorithms alone", &adminv1.ClientProof{Jwks: leaked, Algorithms: []string{"ES256", "RS256"}}, []string{"proof.algorithms"},
			&adminv1.ClientProof{Method: privateKeyJWT, Jwks: fresh, Algorithms: []string{"ES256", "RS256"}}, ""},
		{"a field that is empty", nil, []string{"proof.algorithms"}, &adminv1.ClientProof{Method: privateKeyJWT, Jwks: fresh, Algorithms: []string{"ES256"}}, ""},
		{"the same method again", &adminv1.ClientProof{Method: privateKeyJWT}, []string{"proof.method"}, &adminv1.ClientProof{Method: privateKeyJWT, Jwks: fresh, Algorithms: []string{"ES256"}}, ""},
		{"a key set elsewhere", &adminv1.ClientProof{JwksUri: "https://robot.example/jwks"}, []string{"proof.jwks_uri"},
			&adminv1.ClientProof{Method: privateKeyJWT, JwksUri: "https://robot.example/jwks", Algorithms: []string{"ES256"}}, ""},
		{"and back", &adminv1.ClientProof{Jwks: given}, []string{"proof.jwks"}, &adminv1.ClientProof{Method: privateKeyJWT, Jwks: given, Algorithms: []string{"ES256"}}, ""},
		{"another method begins anew", &adminv1.ClientProof{Method: tlsClientAuth, SanDns: "robot.example"}, []string{"proof.method", "proof.san_dns"},
			&adminv1.ClientProof{Method: tlsClientAuth, SanDns: "robot.example"}, ""},
		{"another name", &adminv1.ClientProof{SanUri: "spiffe://robot"}, []string{"proof.san_uri"}, &adminv1.ClientProof{Method: tlsClientAuth, SanUri: "spiffe://robot"}, ""},
		{"another method without its keys", &adminv1.ClientProof{Method: privateKeyJWT}, []string{"proof.method"}, nil, "proof.jwks"},
		{"no field", &adminv1.ClientProof{}, []string{"proof.secret"}, nil, "proof.secret: cannot be changed"},
		{"no field of another", &adminv1.ClientProof{}, []string{"name.first"}, nil, "name.first: cannot be changed"},
	} {
		answer, err := f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: "robot", Proof: row.given}, UpdateMask: mask(row.paths...)})
		if row.wrong != "" {
			wants(t, row.name, err, codes.InvalidArgument, row.wrong)
		} else if diff := cmp.Diff(row.want, answer.GetClient().GetProof(), protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", row.name, err, diff)
		}
	}
}

// What a client broke before its change does not keep it from being disabled;
// what the change breaks, or names, is refused as ever.
func TestClientsOfOldRulesCanBeChanged(t *testing.T) {
	f := newFixture(t)
	old := store.Client{
		ID: "old", Name: "old", Type: store.Confidential, GrantTypes: []string{authorizationCode}, Scopes: []string{"openid", "offline_access"},
		RedirectURIs: []string{"https://app.example/cb"}, Proof: store.ClientProof{Method: privateKeyJWT, JWKSURI: "ftp://app.example/jwks", Algorithms: []string{"ES256"}},
	}
	if err := f.db.CreateClient(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		client *adminv1.Client
		paths  []string
		wrong  string
	}{
		{"disabled", &adminv1.Client{Disabled: true}, []string{"disabled"}, ""},
		{"renamed", &adminv1.Client{Name: "Old"}, []string{"name"}, ""},
		{"the same scopes, named", &adminv1.Client{Scopes: old.Scopes}, []string{"scopes"}, "scopes[1]"},
		{"a key set, named", &adminv1.Client{Proof: &adminv1.ClientProof{JwksUri: "ftp://app.example/other"}}, []string{"proof.jwks_uri"}, "proof.jwks_uri"},
		{"what breaks another field", &adminv1.Client{GrantTypes: []string{clientCredentials}}, []string{"grant_types"}, "redirect_uris"},
		{"a fault anew", &adminv1.Client{RedirectUris: []string{"http://app.example/cb"}}, []string{"redirect_uris"}, "redirect_uris[0]"},
		{"mended", &adminv1.Client{Scopes: []string{"openid"}}, []string{"scopes"}, ""},
		{"broken again by another field", &adminv1.Client{Scopes: []string{"openid", "offline_access"}, GrantTypes: []string{authorizationCode, refreshToken}}, []string{"scopes", "grant_types"}, ""},
		{"what the scopes need is taken", &adminv1.Client{GrantTypes: []string{authorizationCode}}, []string{"grant_types"}, "scopes[1]"},
	} {
		row.client.Id = "old"
		_, err := f.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: row.client, UpdateMask: mask(row.paths...)})
		if row.wrong != "" {
			wants(t, row.name, err, codes.InvalidArgument, row.wrong)
		} else if err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// A consent becomes what an import says, wider or narrower.
func TestSetConsent(t *testing.T) {
	f := newFixture(t)
	if _, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: &adminv1.User{Login: "ada"}, NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	set := func(login, client string, check bool, scopes ...string) error {
		_, err := f.SetConsent(t.Context(), &adminv1.SetConsentRequest{Login: login, ClientId: client, Scopes: scopes, CheckOnly: check})
		return err
	}
	for _, scopes := range [][]string{{"read:orders"}, {"read:orders", "write:orders"}, {"write:orders"}} {
		if err := set("ada", "robot", false, scopes...); err != nil {
			t.Fatal(err)
		}
		list, err := f.ListConsents(t.Context(), &adminv1.ListConsentsRequest{Login: "ada"})
		if err != nil || len(list.GetConsents()) != 1 || !slices.Equal(list.GetConsents()[0].GetScopes(), scopes) {
			t.Errorf("set to %v: %v, %v", scopes, list, err)
		}
	}
	if err := set("ada", "robot", true, "read:orders"); err != nil {
		t.Error(err)
	}
	if list, _ := f.ListConsents(t.Context(), &adminv1.ListConsentsRequest{Login: "ada"}); !slices.Equal(list.GetConsents()[0].GetScopes(), []string{"write:orders"}) {
		t.Error("a check changed something")
	}
	wants(t, "no scopes", set("ada", "robot", true), codes.InvalidArgument, "scopes:")
	wants(t, "an unknown scope", set("ada", "robot", true, "fly"), codes.InvalidArgument, "scopes[0]")
	wants(t, "nobody", set("eve", "robot", false, "read:orders"), codes.NotFound, "eve")
	wants(t, "no client", set("ada", "nothing", false, "read:orders"), codes.NotFound, "nothing")
}

// What would be refused is told without anything being changed.
func TestCheckOnly(t *testing.T) {
	f := newFixture(t)
	if _, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot(), CheckOnly: true}); err != nil {
		t.Error(err)
	}
	bad := robot()
	bad.Scopes = []string{"fly"}
	_, err := f.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: bad, CheckOnly: true})
	wants(t, "a bad client", err, codes.InvalidArgument, "scopes[0]")
	if _, err := f.CreateUser(t.Context(), &adminv1.CreateUserRequest{User: alice(), Password: goodPassword, CheckOnly: true}); err != nil {
		t.Error(err)
	}
	if _, err := f.CreateGroup(t.Context(), &adminv1.CreateGroupRequest{Group: &adminv1.Group{Name: "staff"}, CheckOnly: true}); err != nil {
		t.Error(err)
	}
	if head, _, err := f.db.VerifyEvents(t.Context(), store.EventHead{}, 10); err != nil || head.Sequence != keyEvents {
		t.Errorf("something was changed: %v, %v", head, err)
	}
}

// keyEvents are the records of the ring's first key.
const keyEvents = 1
