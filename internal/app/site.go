package app

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Site is what `gatehouse export` writes and `gatehouse import` reads: groups,
// clients and users, without secrets.
type Site struct {
	Groups  []SiteGroup  `yaml:"groups,omitempty"`
	Clients []SiteClient `yaml:"clients,omitempty"`
	Users   []SiteUser   `yaml:"users,omitempty"`
}

// SiteGroup is a group of a Site.
type SiteGroup struct {
	Name        string   `yaml:"name"`
	Description string   `yaml:"description,omitempty"`
	Roles       []string `yaml:"roles,omitempty"`
}

// SiteClient is a client of a Site.
type SiteClient struct {
	ID                     string            `yaml:"id"`
	Name                   string            `yaml:"name,omitempty"`
	Type                   string            `yaml:"type"`
	GrantTypes             []string          `yaml:"grant_types,omitempty"`
	RedirectURIs           []string          `yaml:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string          `yaml:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI   string            `yaml:"backchannel_logout_uri,omitempty"`
	Scopes                 []string          `yaml:"scopes,omitempty"`
	AccessTokenLifetime    time.Duration     `yaml:"access_token_lifetime,omitempty"`
	IDTokenAlgorithm       string            `yaml:"id_token_algorithm,omitempty"`
	IntrospectionAlgorithm string            `yaml:"introspection_algorithm,omitempty"`
	Attributes             map[string]string `yaml:"attributes,omitempty"`
	Proof                  *SiteProof        `yaml:"proof,omitempty"`
	RequirePushed          bool              `yaml:"require_pushed,omitempty"`
	BindToKey              bool              `yaml:"bind_to_key,omitempty"`
	BindToCertificate      bool              `yaml:"bind_to_certificate,omitempty"`
	Disabled               bool              `yaml:"disabled,omitempty"`
	// SecretFile is a file with the client's secret.
	SecretFile conf.Path `yaml:"secret_file,omitempty"`
	SecretHash string    `yaml:"secret_hash,omitempty"`
}

// SiteProof is how a client of a Site proves itself without a secret.
type SiteProof struct {
	Method      string   `yaml:"method"`
	JWKS        string   `yaml:"jwks,omitempty"`
	JWKSURI     string   `yaml:"jwks_uri,omitempty"`
	Algorithms  []string `yaml:"algorithms,omitempty"`
	SubjectDN   string   `yaml:"subject_dn,omitempty"`
	SANDNS      string   `yaml:"san_dns,omitempty"`
	SANURI      string   `yaml:"san_uri,omitempty"`
	SANIP       string   `yaml:"san_ip,omitempty"`
	SANEmail    string   `yaml:"san_email,omitempty"`
	Thumbprints []string `yaml:"thumbprints,omitempty"`
}

// SiteUser is a user of a Site.
type SiteUser struct {
	Login        string            `yaml:"login"`
	Name         string            `yaml:"name,omitempty"`
	Email        string            `yaml:"email,omitempty"`
	Roles        []string          `yaml:"roles,omitempty"`
	Groups       []string          `yaml:"groups,omitempty"`
	Disabled     bool              `yaml:"disabled,omitempty"`
	PasswordHash string            `yaml:"password_hash,omitempty"`
	Attributes   map[string]string `yaml:"attributes,omitempty"`
	// Consents are what the user has allowed clients.
	Consents []SiteConsent `yaml:"consents,omitempty"`
}

// SiteConsent is what a user has allowed a client.
type SiteConsent struct {
	Client string   `yaml:"client"`
	Scopes []string `yaml:"scopes"`
}

// YAML is the site as a file.
func (s *Site) YAML() ([]byte, error) { return yaml.Marshal(s) }

// Export reads a site. Clients that registered themselves are their own
// business and left out, with what they were allowed.
func Export(ctx context.Context, admin adminv1.AdminClient, withHashes bool) (*Site, error) {
	s := &Site{}
	for after := ""; ; {
		page, err := admin.ListGroups(ctx, &adminv1.ListGroupsRequest{After: after})
		if err != nil {
			return nil, err
		}
		for _, g := range page.GetGroups() {
			s.Groups = append(s.Groups, SiteGroup{g.GetName(), g.GetDescription(), g.GetRoles()})
		}
		if after = page.GetNext(); after == "" {
			break
		}
	}
	for after := ""; ; {
		page, err := admin.ListClients(ctx, &adminv1.ListClientsRequest{After: after, WithHashes: withHashes})
		if err != nil {
			return nil, err
		}
		for _, c := range page.GetClients() {
			if !c.GetSelfRegistered() {
				s.Clients = append(s.Clients, siteClient(c))
			}
		}
		if after = page.GetNext(); after == "" {
			break
		}
	}
	listed := map[string]bool{}
	for _, c := range s.Clients {
		listed[c.ID] = true
	}
	for after := ""; ; {
		page, err := admin.ListUsers(ctx, &adminv1.ListUsersRequest{After: after, WithHashes: withHashes, WithConsents: true})
		if err != nil {
			return nil, err
		}
		for _, u := range page.GetUsers() {
			s.Users = append(s.Users, siteUser(u, listed))
		}
		if after = page.GetNext(); after == "" {
			return s, nil
		}
	}
}

func siteClient(c *adminv1.Client) SiteClient {
	return SiteClient{
		ID: c.GetId(), Name: c.GetName(), Type: strings.ToLower(strings.TrimPrefix(c.GetType().String(), "CLIENT_TYPE_")),
		GrantTypes: c.GetGrantTypes(), RedirectURIs: c.GetRedirectUris(), PostLogoutRedirectURIs: c.GetPostLogoutRedirectUris(),
		BackchannelLogoutURI: c.GetBackchannelLogoutUri(), Scopes: c.GetScopes(), AccessTokenLifetime: c.GetAccessTokenLifetime().AsDuration(),
		IDTokenAlgorithm: c.GetIdTokenAlgorithm(), IntrospectionAlgorithm: c.GetIntrospectionAlgorithm(), Attributes: c.GetAttributes(), Disabled: c.GetDisabled(), SecretHash: c.GetSecretHash(),
		Proof: siteProof(c.GetProof()), RequirePushed: c.GetRequirePushed(), BindToKey: c.GetBindToKey(), BindToCertificate: c.GetBindToCertificate(),
	}
}

// siteProof is nil for a client that has a secret, or nothing.
func siteProof(p *adminv1.ClientProof) *SiteProof {
	if p.GetMethod() == "" {
		return nil
	}
	return &SiteProof{
		Method: p.GetMethod(), JWKS: string(p.GetJwks()), JWKSURI: p.GetJwksUri(), Algorithms: p.GetAlgorithms(), Thumbprints: p.GetThumbprints(),
		SubjectDN: p.GetSubjectDn(), SANDNS: p.GetSanDns(), SANURI: p.GetSanUri(), SANIP: p.GetSanIp(), SANEmail: p.GetSanEmail(),
	}
}

func (p *SiteProof) message() *adminv1.ClientProof {
	if p == nil {
		return nil
	}
	return &adminv1.ClientProof{
		Method: p.Method, Jwks: []byte(p.JWKS), JwksUri: p.JWKSURI, Algorithms: p.Algorithms, Thumbprints: p.Thumbprints,
		SubjectDn: p.SubjectDN, SanDns: p.SANDNS, SanUri: p.SANURI, SanIp: p.SANIP, SanEmail: p.SANEmail,
	}
}

// siteUser is a user with what they have allowed the clients that are listed.
func siteUser(u *adminv1.User, listed map[string]bool) SiteUser {
	s := SiteUser{
		Login: u.GetLogin(), Name: u.GetName(), Email: u.GetEmail(), Roles: u.GetRoles(), Groups: u.GetGroups(),
		Disabled: u.GetDisabled(), PasswordHash: u.GetPasswordHash(), Attributes: u.GetAttributes(),
	}
	for _, c := range u.GetConsents() {
		if listed[c.GetClientId()] {
			s.Consents = append(s.Consents, SiteConsent{c.GetClientId(), c.GetScopes()})
		}
	}
	return s
}

func (c SiteClient) message() *adminv1.Client {
	m := &adminv1.Client{
		Id: c.ID, Name: c.Name, Type: adminv1.ClientType(adminv1.ClientType_value["CLIENT_TYPE_"+strings.ToUpper(c.Type)]),
		GrantTypes: c.GrantTypes, RedirectUris: c.RedirectURIs, PostLogoutRedirectUris: c.PostLogoutRedirectURIs,
		BackchannelLogoutUri: c.BackchannelLogoutURI, Scopes: c.Scopes, IdTokenAlgorithm: c.IDTokenAlgorithm, IntrospectionAlgorithm: c.IntrospectionAlgorithm, Attributes: c.Attributes, Disabled: c.Disabled, SecretHash: c.SecretHash,
		Proof: c.Proof.message(), RequirePushed: c.RequirePushed, BindToKey: c.BindToKey, BindToCertificate: c.BindToCertificate,
	}
	if c.AccessTokenLifetime > 0 {
		m.AccessTokenLifetime = durationpb.New(c.AccessTokenLifetime)
	}
	return m
}

func (u SiteUser) message() *adminv1.User {
	return &adminv1.User{Login: u.Login, Name: u.Name, Email: u.Email, Roles: u.Roles, Groups: u.Groups, Disabled: u.Disabled, PasswordHash: u.PasswordHash, Attributes: u.Attributes}
}

// differing names the YAML keys in which two records differ.
func differing(a, b any) (keys []string) {
	before, after := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range before.NumField() {
		x, y := before.Field(i), after.Field(i)
		if (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Len() == 0 && y.Len() == 0 || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		key, _, _ := strings.Cut(before.Type().Field(i).Tag.Get("yaml"), ",")
		keys = append(keys, key)
	}
	return keys
}

// secret is the content of the file that a client's secret is in.
func (c SiteClient) secret() (string, error) {
	if c.SecretFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(string(c.SecretFile))
	if err != nil {
		return "", fmt.Errorf("reading the secret of client %q: %w", c.ID, err)
	}
	return strings.TrimSpace(string(text)), nil
}

func without(keys []string, left ...string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(left, k) })
}
