package issuer

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// clientMetadata is RFC 7591 §2, as far as it means something here. What is
// unknown is left out of the answer, as the RFC wants it.
type clientMetadata struct {
	ClientID               string   `json:"client_id,omitempty"`
	ClientSecret           string   `json:"client_secret,omitempty"`
	ClientName             string   `json:"client_name,omitempty"`
	RedirectURIs           []string `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI   string   `json:"backchannel_logout_uri,omitempty"`
	GrantTypes             []string `json:"grant_types,omitempty"`
	ResponseTypes          []string `json:"response_types,omitempty"`
	ApplicationType        string   `json:"application_type,omitempty"`
	IDTokenAlgorithm       string   `json:"id_token_signed_response_alg,omitempty"`
	IntrospectionAlgorithm string   `json:"introspection_signed_response_alg,omitempty"`
	Scope                  string   `json:"scope,omitempty"`
	RequirePushed          bool     `json:"require_pushed_authorization_requests,omitempty"`
	SoftwareStatement      string   `json:"software_statement,omitempty"`
	proofRegistration
}

// registered is the answer to a registration (RFC 7591 §3.2.1, RFC 7592 §3).
type registered struct {
	clientMetadata
	IssuedAt        int64  `json:"client_id_issued_at"`
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`
	AccessToken     string `json:"registration_access_token"`
	ClientURI       string `json:"registration_client_uri"`
}

// readMetadata reads the body of a registration, as strictly as tokens are
// read: what two readers could take for two things registers nothing.
func readMetadata(r *http.Request) (*clientMetadata, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" || len(r.Header["Content-Type"]) != 1 {
		return nil, fail(codeInvalidRequest, "the body must be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, tooLarge()
	case err != nil:
		return nil, fail(codeInvalidRequest, "the body could not be read").because(err)
	}
	if err := token.CheckObject(string(body), maxForm); err != nil {
		return nil, fail(codeInvalidMetadata, "the metadata is no strict JSON object, or a member stands twice").because(err)
	}
	m := &clientMetadata{}
	if err := json.Unmarshal(onlyKnown(body), m); err != nil {
		return nil, fail(codeInvalidMetadata, "the metadata is no JSON object of the right types").because(err)
	}
	return m, nil
}

// onlyKnown leaves of an object the members that clientMetadata has by exactly
// their names: encoding/json would also take "SCOPE" for "scope".
func onlyKnown(object []byte) []byte {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return object
	}
	known := map[string]json.RawMessage{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[clientMetadata]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if value, there := all[name]; there && name != "" {
			known[name] = value
		}
	}
	text, err := json.Marshal(known)
	if err != nil {
		return object
	}
	return text
}

// unsupported refuses what must not be ignored; was is how the client proves
// itself so far.
func (m *clientMetadata) unsupported(c Config, was store.ClientProof, hosts []string) error {
	switch {
	case m.SoftwareStatement != "":
		return fail("unapproved_software_statement", "software statements are not accepted")
	case len(m.ResponseTypes) > 0 && !slices.Equal(m.ResponseTypes, []string{"code"}):
		return fail(codeInvalidMetadata, "the only response type is code")
	case !slices.Contains([]string{"", "web", "native"}, m.ApplicationType):
		return fail(codeInvalidMetadata, "application_type is web or native")
	case !isText(m.ClientName):
		return fail(codeInvalidMetadata, "client_name has a character that cannot be shown")
	}
	if _, ok := parseScope(m.Scope); !ok {
		return fail(codeInvalidMetadata, "scope does not follow its grammar")
	}
	return m.proofRegistration.unsupported(c, was, hosts)
}

// client is the client that the metadata describes, with the defaults of RFC
// 7591 §2 and what the policy requires. Without a scope it gets all that the
// policy has and that is of use to it: offline_access needs refresh tokens.
func (m *clientMetadata) client(p store.RegistrationPolicy) store.Client {
	c := store.Client{
		Name: m.ClientName, Type: store.Confidential, GrantTypes: m.GrantTypes,
		RedirectURIs: m.RedirectURIs, PostLogoutRedirectURIs: m.PostLogoutRedirectURIs, BackchannelLogoutURI: m.BackchannelLogoutURI,
		IDTokenAlgorithm: m.IDTokenAlgorithm, IntrospectionAlgorithm: m.IntrospectionAlgorithm, Proof: m.proof(),
		RequirePushed:     m.RequirePushed || p.Requires(store.RequirePushed),
		BindToKey:         m.BindToKey || p.Requires(store.RequireKeyBound),
		BindToCertificate: m.BindToCertificate || p.Requires(store.RequireCertificateBound),
	}
	switch {
	case m.AuthMethod == methodNone && m.ApplicationType == "native":
		c.Type = store.Native
	case m.AuthMethod == methodNone:
		c.Type = store.Public
	}
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = []string{grantAuthorizationCode}
	}
	if c.Scopes, _ = parseScope(m.Scope); len(c.Scopes) == 0 {
		c.Scopes = slices.DeleteFunc(slices.Clone(p.Scopes), func(scope string) bool {
			return scope == scopeOfflineAccess && !slices.Contains(c.GrantTypes, grantRefreshToken)
		})
	}
	return c
}

// registeredMetadata describes a client as it is stored. Of the secret there is
// only a hash, so it is told once, when it is made.
func registeredMetadata(c store.Client, endpoint, secret, management string) registered {
	m := registered{
		clientMetadata: clientMetadata{
			ClientID: c.ID, ClientSecret: secret, ClientName: c.Name, RedirectURIs: c.RedirectURIs,
			PostLogoutRedirectURIs: c.PostLogoutRedirectURIs, BackchannelLogoutURI: c.BackchannelLogoutURI,
			GrantTypes: c.GrantTypes, ApplicationType: "web",
			IDTokenAlgorithm: c.IDTokenAlgorithm, IntrospectionAlgorithm: c.IntrospectionAlgorithm, Scope: strings.Join(c.Scopes, " "), RequirePushed: c.RequirePushed,
			proofRegistration: registeredProof(c),
		},
		IssuedAt: c.CreatedAt.Unix(), AccessToken: management, ClientURI: endpoint + "?" + url.Values{"client_id": {c.ID}}.Encode(),
	}
	if slices.Contains(c.GrantTypes, grantAuthorizationCode) {
		m.ResponseTypes = []string{"code"}
	}
	if c.Type == store.Native {
		m.ApplicationType = "native"
	}
	if secret != "" {
		m.SecretExpiresAt = new(int64) // never
	}
	return m
}

// redirectAllowed tells whether a policy has where a redirect URI leads: its
// host or, for an installed application, its private-use scheme (RFC 8252
// §7.1).
func redirectAllowed(uri string, kind store.ClientType, p store.RegistrationPolicy) bool {
	scheme, _, found := strings.Cut(uri, ":")
	if found && kind == store.Native && slices.Contains(p.RedirectSchemes, scheme) {
		return true
	}
	return hostAllowed(uri, p.RedirectHosts)
}

// hostAllowed tells whether a policy has the host that a URI leads to. URIs
// without a host are nobody's.
func hostAllowed(uri string, hosts []string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" {
		return false
	}
	host := u.Hostname()
	return slices.ContainsFunc(hosts, func(allowed string) bool {
		if domain, wild := strings.CutPrefix(allowed, "*."); wild {
			sub, found := strings.CutSuffix(host, "."+domain)
			return found && sub != ""
		}
		return host == strings.Trim(allowed, "[]")
	})
}

func isRedirectKey(key string) bool {
	return strings.HasPrefix(key, "redirect_uris") || strings.HasPrefix(key, "post_logout_redirect_uris")
}
