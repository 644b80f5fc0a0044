package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

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
		"offline for good":  {func(c *adminv1.Client) { c.Scopes = []string{"read:orders", "offline_access"} }, []string{`scopes[1]: "offline_access"`, "refresh_token"}},
		"no redirect URI":   {func(c *adminv1.Client) { c.GrantTypes = []string{"authorization_code"} }, []string{"redirect_uris: are missing"}},
		"a useless redirect": {func(c *adminv1.Client) {
			c.GrantTypes, c.RedirectUris = []string{"client_credentials"}, []string{"https://a/cb"}
		}, []string{"of no use"}},
		"a redirect twice":   {func(c *adminv1.Client) { c.RedirectUris = []string{"https://a/cb", "https://a/cb"} }, []string{"redirect_uris[1]", "twice"}},
		"too many redirects": {func(c *adminv1.Client) { c.RedirectUris = slices.Repeat([]string{"https://a/cb"}, 21) }, []string{"too many"}},
		"a public robot": {func(c *adminv1.Client) {
			c.Type, c.GrantTypes = adminv1.ClientType_CLIENT_TYPE_PUBLIC, []string{"client_credentials"}
		}, []string{"needs a secret"}},
		"a public exchanger": {func(c *adminv1.Client) {
			c.Type, c.GrantTypes = adminv1.ClientType_CLIENT_TYPE_NATIVE, []string{tokenExchange}
		}, []string{tokenExchange, "needs a secret"}},
		"too long a life":  {func(c *adminv1.Client) { c.AccessTokenLifetime = durationpb.New(time.Hour) }, []string{"access_token_lifetime", "1s to 10m0s"}},
		"too short a life": {func(c *adminv1.Client) { c.AccessTokenLifetime = durationpb.New(time.Millisecond) }, []string{"access_token_lifetime"}},
		"attribute names": {func(c *adminv1.Client) {
			c.Attributes = map[string]string{"Plan": "pro", "": "x", "2nd": "x", "a.b": "x"}
		}, []string{`"Plan" is no name`, `"2nd" is no name`, `"a.b" is no name`, `attributes.: is no name`}},
		"attribute values": {func(c *adminv1.Client) {
			c.Attributes = map[string]string{"plan": "", "a": "x\ny", "b": strings.Repeat("x", 257)}
		}, []string{"attributes.plan: ", "attributes.a: ", "attributes.b: "}},
		"foreign algorithm": {func(c *adminv1.Client) { c.IdTokenAlgorithm = "RS256" }, []string{`"RS256" has no signing keys`, "issuer.keys.algorithms"}},
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
