package issuer

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func registering(c *Config) { c.Registration.Access = registerToken }

// initialToken is an initial access token for so many clients.
func (s *site) initialToken(uses int) string {
	s.Helper()
	secret := store.NewToken("ghri_")
	if err := s.server.store.CreateRegistrationToken(s.Context(), store.RegistrationToken{
		ID: store.NewID("rgt_"), Hash: store.HashOf(secret), UsesLeft: uses, ExpiresAt: s.clock.now().Add(time.Hour),
		Policy: store.RegistrationPolicy{
			GrantTypes: []string{grantAuthorizationCode, grantClientCredentials}, Scopes: []string{"read:orders", "write:orders"},
			RedirectHosts: []string{"app.example", "*.dev.example", "127.0.0.1"},
		},
	}); err != nil {
		s.Fatal(err)
	}
	return secret
}

// json sends a body as JSON, with a bearer token unless that is empty.
func (s *site) jsonRequest(method, path, token string, body any, change ...func(*http.Request)) answer {
	s.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		if err != nil {
			s.Fatal(err)
		}
		text = string(encoded)
	}
	return s.request(method, path, text, append([]func(*http.Request){func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}}, change...)...)
}

func robotMetadata() map[string]any {
	return map[string]any{"client_name": "Robot", "grant_types": []string{grantClientCredentials}, "scope": "read:orders"}
}

// A client registers, uses and changes itself, and goes; its tokens go with it.
func TestRegistrationLife(t *testing.T) {
	s := newSite(t, registering)
	made := s.jsonRequest("POST", pathRegister, s.initialToken(1), robotMetadata())
	if made.StatusCode != 201 || made.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("registering: %d %s", made.StatusCode, made.body)
	}
	m := made.json(t)
	id, secret, management := m["client_id"].(string), m["client_secret"].(string), m["registration_access_token"].(string)
	uri, err := url.Parse(m["registration_client_uri"].(string))
	if err != nil || !strings.HasPrefix(uri.String(), s.url+pathRegister+"?") || m["client_secret_expires_at"] != 0.0 || m["token_endpoint_auth_method"] != methodBasic {
		t.Errorf("registered as %v", m)
	}
	token := func() answer {
		return s.request("POST", pathToken, url.Values{"grant_type": {grantClientCredentials}}.Encode(), basic(id, secret))
	}
	access := token()
	if access.StatusCode != 200 {
		t.Fatalf("its token: %s", access.body)
	}
	manage := func(method, token string, body any) answer {
		return s.jsonRequest(method, uri.RequestURI(), token, body)
	}
	if read := manage("GET", management, ""); read.StatusCode != 200 || read.json(t)["client_name"] != "Robot" || read.json(t)["registration_access_token"] != management || strings.Contains(read.body, secret) {
		t.Errorf("read: %d %s", read.StatusCode, read.body)
	}
	change := robotMetadata()
	change["client_id"], change["client_name"], change["client_secret"] = id, "Robot II", secret
	changed := manage("PUT", management, change)
	if changed.StatusCode != 200 || changed.json(t)["client_name"] != "Robot II" {
		t.Fatalf("changed: %d %s", changed.StatusCode, changed.body)
	}
	next := changed.json(t)["registration_access_token"].(string)
	if next == management {
		t.Error("the registration access token was not rotated")
	}
	s.oauthError(manage("GET", management, ""), 401, codeInvalidToken)
	if again := token(); again.StatusCode != 200 {
		t.Errorf("with the secret from before the change: %s", again.body)
	}
	if gone := manage("DELETE", next, ""); gone.StatusCode != 204 || gone.body != "" {
		t.Errorf("unregistered: %d %s", gone.StatusCode, gone.body)
	}
	s.oauthError(token(), 401, codeInvalidClient)
	s.oauthError(manage("GET", next, ""), 401, codeInvalidToken)
	if alive := s.claims(access.json(t)["access_token"]); alive != nil {
		if ok, _ := s.server.store.Alive(t.Context(), refsOf(alive)); ok {
			t.Error("a token of an unregistered client is alive")
		}
	}
}

// RFC 7591 §3.2.2, 7592 §2 and our own bounds, clause by clause.
func TestRegistrationRefuses(t *testing.T) {
	s := newSite(t, registering)
	initial := s.initialToken(100)
	with := func(pairs ...any) map[string]any {
		m := robotMetadata()
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	login := func(uris ...string) map[string]any {
		return with("grant_types", []string{grantAuthorizationCode}, "redirect_uris", uris)
	}
	for name, row := range map[string]struct {
		token  string
		body   any
		status int
		code   string
	}{
		"no token":               {"", with(), 401, codeInvalidRequest},
		"a wrong token":          {"ghri_guess", with(), 401, codeInvalidToken},
		"no JSON":                {initial, "{", 400, codeInvalidMetadata},
		"a list":                 {initial, "[]", 400, codeInvalidMetadata},
		"wrong type":             {initial, with("scope", 1), 400, codeInvalidMetadata},
		"software statement":     {initial, with("software_statement", "e30.e30."), 400, "unapproved_software_statement"},
		"grant beyond policy":    {initial, with("grant_types", []string{grantRefreshToken, grantAuthorizationCode}), 400, codeInvalidMetadata},
		"implicit":               {initial, with("grant_types", []string{"implicit"}), 400, codeInvalidMetadata},
		"response type token":    {initial, with("response_types", []string{"token"}), 400, codeInvalidMetadata},
		"scope beyond policy":    {initial, with("scope", "read:profile"), 400, codeInvalidMetadata},
		"scope grammar":          {initial, with("scope", "a\"b"), 400, codeInvalidMetadata},
		"client_secret_jwt":      {initial, with("token_endpoint_auth_method", "client_secret_jwt"), 400, codeInvalidMetadata},
		"public robot":           {initial, with("token_endpoint_auth_method", "none"), 400, codeInvalidMetadata},
		"name with newline":      {initial, with("client_name", "a\nb"), 400, codeInvalidMetadata},
		"no redirect":            {initial, login(), 400, codeInvalidRedirectURI},
		"http redirect":          {initial, login("http://app.example/cb"), 400, codeInvalidRedirectURI},
		"redirect with fragment": {initial, login("https://app.example/cb#x"), 400, codeInvalidRedirectURI},
		"wildcard":               {initial, login("https://app.example/*"), 400, codeInvalidRedirectURI},
		"foreign host":           {initial, login("https://evil.example/cb"), 400, codeInvalidRedirectURI},
		"host as user":           {initial, login("https://app.example@evil.example/cb"), 400, codeInvalidRedirectURI},
		"the bare domain":        {initial, login("https://dev.example/cb"), 400, codeInvalidRedirectURI},
		"no subdomain":           {initial, login("https://evildev.example/cb"), 400, codeInvalidRedirectURI},
		"private scheme":         {initial, login("com.example.app:/cb"), 400, codeInvalidRedirectURI},
		"foreign logout URI":     {initial, with("backchannel_logout_uri", "https://evil.example/x"), 400, codeInvalidMetadata},
		"too large":              {initial, with("client_uri", strings.Repeat("x", maxForm)), 413, codeInvalidRequest},
	} {
		before := s.events(store.EventQuery{Name: "client"})
		a := s.jsonRequest("POST", pathRegister, row.token, row.body)
		if a.StatusCode != row.status || a.json(t)["error"] != row.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.StatusCode, a.body, row.status, row.code)
		}
		if challenged := a.Header.Get("WWW-Authenticate") != ""; challenged != (row.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", name, a.Header.Get("WWW-Authenticate"))
		}
		if after := s.events(store.EventQuery{Name: "client"}); len(after) != len(before) {
			t.Errorf("%s: a client was made", name)
		}
	}
	for _, uri := range []string{"https://app.example/cb", "https://a.dev.example/cb", "http://127.0.0.1/cb"} {
		if a := s.jsonRequest("POST", pathRegister, initial, login(uri)); a.StatusCode != 201 {
			t.Errorf("%s: %d %s", uri, a.StatusCode, a.body)
		}
	}
	s.oauthError(s.request("POST", pathRegister, "a=b", header("Authorization", "Bearer "+initial)), 400, codeInvalidRequest)

	// A client that an administrator made cannot be managed here, and one that
	// manages itself cannot grow beyond its policy.
	s.oauthError(s.jsonRequest("GET", pathRegister+"?client_id=web", webSecret, ""), 401, codeInvalidToken)
	m := s.jsonRequest("POST", pathRegister, initial, robotMetadata()).json(t)
	id, management := m["client_id"].(string), m["registration_access_token"].(string)
	path := pathRegister + "?" + url.Values{"client_id": {id}}.Encode()
	for name, body := range map[string]map[string]any{
		"another id":       with("client_id", "web"),
		"no id":            with(),
		"wrong secret":     with("client_id", id, "client_secret", "wrong"),
		"more scope":       with("client_id", id, "scope", "read:profile"),
		"another type":     with("client_id", id, "token_endpoint_auth_method", "none"),
		"software":         with("client_id", id, "software_statement", "x.y.z"),
		"another's grants": with("client_id", id, "grant_types", []string{grantRefreshToken}),
	} {
		if a := s.jsonRequest("PUT", path, management, body); a.StatusCode != 400 {
			t.Errorf("PUT with %s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if a := s.jsonRequest("GET", path, management, ""); a.StatusCode != 200 {
		t.Errorf("a refused change took the token: %d %s", a.StatusCode, a.body)
	}
}

// A token registers as many clients as it is for, and not after its time.
func TestInitialTokensEnd(t *testing.T) {
	s := newSite(t, registering)
	once := s.initialToken(1)
	if a := s.jsonRequest("POST", pathRegister, once, robotMetadata()); a.StatusCode != 201 {
		t.Fatal(a.body)
	}
	s.oauthError(s.jsonRequest("POST", pathRegister, once, robotMetadata()), 401, codeInvalidToken)
	late := s.initialToken(1)
	s.clock.advance(time.Hour)
	s.oauthError(s.jsonRequest("POST", pathRegister, late, robotMetadata()), 401, codeInvalidToken)
}

// Nothing is there, and nothing is advertised, unless it is switched on; open
// registration is bounded.
func TestWaysToRegister(t *testing.T) {
	s := newSite(t)
	if a := s.jsonRequest("POST", pathRegister, "x", robotMetadata()); a.StatusCode != 404 {
		t.Errorf("switched off: %d", a.StatusCode)
	}
	if endpoint := s.request("GET", pathMetadata, "").json(t)["registration_endpoint"]; endpoint != nil {
		t.Errorf("switched off, yet advertised as %v", endpoint)
	}
	s = newSite(t, func(c *Config) {
		c.Registration = Registration{Access: registerOpen, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}}
	})
	if endpoint := s.request("GET", pathMetadata, "").json(t)["registration_endpoint"]; endpoint != s.url+pathRegister {
		t.Errorf("advertised as %v", endpoint)
	}
	for i := range openRegistrations + 1 {
		a := s.jsonRequest("POST", pathRegister, "", robotMetadata(), from(fmt.Sprintf("192.0.2.%d", i/registrationsOfAddress)))
		if want := map[bool]int{true: 201, false: 429}[i < openRegistrations]; a.StatusCode != want {
			t.Fatalf("registration %d: %d %s", i, a.StatusCode, a.body)
		}
		if i%registrationsOfAddress == registrationsOfAddress-1 { // one address does not take all
			s.oauthError(s.jsonRequest("POST", pathRegister, "", robotMetadata(), from(fmt.Sprintf("192.0.2.%d", i/registrationsOfAddress))), 429, codeTemporarilyUnavailable)
		}
	}
	s.clock.advance(openWindow)
	if a := s.jsonRequest("POST", pathRegister, "", robotMetadata()); a.StatusCode != 201 {
		t.Errorf("an hour later: %d %s", a.StatusCode, a.body)
	}
}

// What an administrator decided about a client that registered itself, the
// client cannot undo by registering again (RFC 7592 §2.2).
func TestReregistrationUndoesNoAdministration(t *testing.T) {
	app := map[string]any{
		"client_name": "App", "grant_types": []string{grantAuthorizationCode, grantClientCredentials}, "scope": "read:orders write:orders",
		"redirect_uris": []string{"https://app.example/cb", "https://app.example/cb2"}, "post_logout_redirect_uris": []string{"https://app.example/bye"},
	}
	unlike := func(pairs ...any) map[string]any {
		m := maps.Clone(app)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	for name, row := range map[string]struct {
		field  string
		client *adminv1.Client
		put    map[string]any
		status int
		kept   func(store.Client) bool
	}{
		"a lifetime":               {"access_token_lifetime", &adminv1.Client{AccessTokenLifetime: durationpb.New(time.Minute)}, app, 200, func(c store.Client) bool { return c.AccessTokenLifetime == time.Minute }},
		"attributes":               {"attributes", &adminv1.Client{Attributes: map[string]string{"plan": "free"}}, unlike("attributes", map[string]string{"plan": "pro"}), 200, func(c store.Client) bool { return c.Attributes["plan"] == "free" }},
		"what answers are signed":  {"introspection_algorithm", &adminv1.Client{IntrospectionAlgorithm: "ES256"}, app, 200, func(c store.Client) bool { return c.IntrospectionAlgorithm == "ES256" }},
		"pushed requests":          {"require_pushed", &adminv1.Client{RequirePushed: true}, app, 200, func(c store.Client) bool { return c.RequirePushed }},
		"pushed requests, said":    {"require_pushed", &adminv1.Client{RequirePushed: true}, unlike("require_pushed_authorization_requests", false), 200, func(c store.Client) bool { return c.RequirePushed }},
		"binding to a key":         {"bind_to_key", &adminv1.Client{BindToKey: true}, app, 200, func(c store.Client) bool { return c.BindToKey }},
		"to a certificate":         {"bind_to_certificate", &adminv1.Client{BindToCertificate: true}, app, 200, func(c store.Client) bool { return c.BindToCertificate }},
		"fewer scopes":             {"scopes", &adminv1.Client{Scopes: []string{"read:orders"}}, app, 400, func(c store.Client) bool { return len(c.Scopes) == 1 }},
		"fewer scopes, by default": {"scopes", &adminv1.Client{Scopes: []string{"read:orders"}}, unlike("scope", ""), 200, func(c store.Client) bool { return slices.Equal(c.Scopes, []string{"read:orders"}) }},
		"fewer grants":             {"grant_types", &adminv1.Client{GrantTypes: []string{grantAuthorizationCode}}, app, 400, func(c store.Client) bool { return len(c.GrantTypes) == 1 }},
		"a redirect URI less":      {"redirect_uris", &adminv1.Client{RedirectUris: []string{"https://app.example/cb"}}, app, 400, func(c store.Client) bool { return len(c.RedirectURIs) == 1 }},
		"a way out less":           {"post_logout_redirect_uris", &adminv1.Client{}, app, 400, func(c store.Client) bool { return len(c.PostLogoutRedirectURIs) == 0 }},
		"one of them dropped":      {"redirect_uris", &adminv1.Client{RedirectUris: []string{"https://app.example/cb2", "https://app.example/3"}}, unlike("redirect_uris", []string{"https://app.example/3"}), 200, func(c store.Client) bool { return slices.Equal(c.RedirectURIs, []string{"https://app.example/3"}) }},
		"a name":                   {"name", &adminv1.Client{Name: "Not the bank"}, unlike("client_name", "The bank"), 200, func(c store.Client) bool { return c.Name == "Not the bank" }},
		"logouts":                  {"backchannel_logout_uri", &adminv1.Client{BackchannelLogoutUri: "https://app.example/out"}, app, 200, func(c store.Client) bool { return c.BackchannelLogoutURI == "https://app.example/out" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, registering, func(c *Config) { c.MTLSURL = "https://mtls.example" })
			m := s.jsonRequest("POST", pathRegister, s.initialToken(1), app).json(t)
			id, management := m["client_id"].(string), m["registration_access_token"].(string)
			row.client.Id = id
			if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: row.client, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{row.field}}}); err != nil {
				t.Fatal(err)
			}
			put := maps.Clone(row.put)
			put["client_id"] = id
			if a := s.jsonRequest("PUT", pathRegister+"?client_id="+id, management, put); a.StatusCode != row.status {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if c, err := s.server.store.Client(t.Context(), id); err != nil || !row.kept(c) {
				t.Errorf("left: %+v, %v", c, err)
			}
		})
	}
}

// What an administrator gave a client beyond its policy does not keep the client
// from changing itself: it has to be able to replace a key that leaked. Only what
// is new is held against the policy.
func TestReregistrationKeepsWhatIsBeyondThePolicy(t *testing.T) {
	key := func() json.RawMessage { return json.RawMessage(tokentest.JWKS(tokentest.NewKey("ES256"))) }
	app := func(id string, keys json.RawMessage) map[string]any {
		return map[string]any{
			"client_id": id, "grant_types": []string{grantAuthorizationCode}, "scope": "read:orders", "redirect_uris": []string{"https://app.example/cb"},
			"token_endpoint_auth_method": methodPrivateKeyJWT, "jwks": keys,
		}
	}
	for name, row := range map[string]struct {
		field  string
		client *adminv1.Client
		put    func(m map[string]any)
		status int
	}{
		"where logouts go":     {"backchannel_logout_uri", &adminv1.Client{BackchannelLogoutUri: "https://elsewhere.example/out"}, func(map[string]any) {}, 200},
		"a redirect URI":       {"redirect_uris", &adminv1.Client{RedirectUris: []string{"https://elsewhere.example/cb"}}, func(m map[string]any) { m["redirect_uris"] = []string{"https://elsewhere.example/cb"} }, 200},
		"a way out":            {"post_logout_redirect_uris", &adminv1.Client{PostLogoutRedirectUris: []string{"https://elsewhere.example/"}}, func(m map[string]any) { m["post_logout_redirect_uris"] = []string{"https://elsewhere.example/"} }, 200},
		"a key set":            {"proof", &adminv1.Client{Proof: &adminv1.ClientProof{Method: methodPrivateKeyJWT, JwksUri: "https://elsewhere.example/jwks"}}, func(m map[string]any) { delete(m, "jwks"); m["jwks_uri"] = "https://elsewhere.example/jwks" }, 200},
		"another key set":      {"name", &adminv1.Client{Name: "App"}, func(m map[string]any) { delete(m, "jwks"); m["jwks_uri"] = "https://elsewhere.example/jwks" }, 400},
		"logouts of its own":   {"name", &adminv1.Client{Name: "App"}, func(m map[string]any) { m["backchannel_logout_uri"] = "https://elsewhere.example/out" }, 400},
		"a redirect URI anew":  {"name", &adminv1.Client{Name: "App"}, func(m map[string]any) { m["redirect_uris"] = []string{"https://elsewhere.example/cb"} }, 400},
		"a way out to come in": {"post_logout_redirect_uris", &adminv1.Client{PostLogoutRedirectUris: []string{"https://elsewhere.example/"}}, func(m map[string]any) { m["redirect_uris"] = []string{"https://elsewhere.example/"} }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, registering)
			m := s.jsonRequest("POST", pathRegister, s.initialToken(1), app("", key())).json(t)
			id, management := m["client_id"].(string), m["registration_access_token"].(string)
			row.client.Id = id
			if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: row.client, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{row.field}}}); err != nil {
				t.Fatal(err)
			}
			next := key()
			put := app(id, next)
			row.put(put)
			a := s.jsonRequest("PUT", pathRegister+"?client_id="+id, management, put)
			if a.StatusCode != row.status {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			if c, err := s.server.store.Client(t.Context(), id); row.status == 200 && row.field != "proof" && (err != nil || string(c.Proof.JWKS) != string(next)) {
				t.Errorf("its new key is not in force: %+v, %v", c, err)
			}
		})
	}
}

// Without a scope a client gets what its grant types have a use for (OpenID
// Connect Core §11): an offline_access that is of none would refuse it wholly.
func TestRegistrationScopesByDefault(t *testing.T) {
	for _, row := range []struct {
		grants []string
		want   string
	}{
		{[]string{grantAuthorizationCode}, "openid read:orders"},
		{[]string{grantAuthorizationCode, grantRefreshToken}, "openid offline_access read:orders"},
	} {
		s := newSite(t, func(c *Config) {
			c.Registration = Registration{
				Access: registerOpen, GrantTypes: []string{grantAuthorizationCode, grantRefreshToken},
				Scopes: []string{"openid", "offline_access", "read:orders"}, RedirectHosts: []string{"app.example"},
			}
		})
		made := s.jsonRequest("POST", pathRegister, "", map[string]any{"grant_types": row.grants, "redirect_uris": []string{"https://app.example/cb"}})
		if made.StatusCode != 201 || made.json(t)["scope"] != row.want {
			t.Errorf("%v: %d %s", row.grants, made.StatusCode, made.body)
		}
	}
}

// An update is judged by what the client is when it is written, not by what it
// was when the request came.
func TestReregistrationIsJudgedWhenWritten(t *testing.T) {
	s := newSite(t, registering)
	m := s.jsonRequest("POST", pathRegister, s.initialToken(1), robotMetadata()).json(t)
	id, management := m["client_id"].(string), m["registration_access_token"].(string)
	before, err := s.server.store.Client(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{
		Client: &adminv1.Client{Id: id, Scopes: []string{"write:orders"}, BindToKey: true}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scopes", "bind_to_key"}},
	}); err != nil {
		t.Fatal(err)
	}
	put := func(scope string) error {
		body, err := json.Marshal(robotWith("client_id", id, "scope", scope))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("PUT", pathRegister, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		return s.server.reregister(httptest.NewRecorder(), r, before, store.HashOf(management))
	}
	if err := put("read:orders"); err == nil {
		t.Error("it has a scope that was taken from it meanwhile")
	}
	if err := put("write:orders"); err != nil {
		t.Error(err)
	}
	if c, err := s.server.store.Client(t.Context(), id); err != nil || !c.BindToKey || !slices.Equal(c.Scopes, []string{"write:orders"}) {
		t.Errorf("left: %+v, %v", c, err)
	}
}

// Whatever is no metadata of a client's survives its updates. A field of clients
// that is new turns this red until it is decided whose it is.
func TestReregistrationLosesNoField(t *testing.T) {
	s := newSite(t, registering)
	m := s.jsonRequest("POST", pathRegister, s.initialToken(1), robotMetadata()).json(t)
	was, err := s.server.store.Client(t.Context(), m["client_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	byStore := []string{"Secret", "CreatedAt", "NotBefore"}                                                                                                                  // UpdateRegistration keeps them
	own := []string{"Name", "Proof", "GrantTypes", "RedirectURIs", "PostLogoutRedirectURIs", "BackchannelLogoutURI", "Scopes", "IDTokenAlgorithm", "IntrospectionAlgorithm"} // metadata
	never := []string{"ID", "Type", "Disabled", "Registration"}                                                                                                              // refused, or the next token
	value := reflect.ValueOf(&was).Elem()
	for i := range value.NumField() {
		field := value.Field(i)
		name := value.Type().Field(i).Name
		if slices.Contains(slices.Concat(byStore, own, never), name) {
			continue
		}
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int64:
			field.SetInt(int64(time.Minute))
		case reflect.String:
			field.SetString("set")
		case reflect.Map:
			field.Set(reflect.ValueOf(map[string]string{"set": "set"}))
		default:
			t.Errorf("the field %s is new: whose is it?", name)
			continue
		}
		next, err := s.server.reregistered(was, &clientMetadata{ClientID: was.ID, GrantTypes: was.GrantTypes})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(field.Interface(), reflect.ValueOf(next).Field(i).Interface()); diff != "" {
			t.Errorf("an update changes %s: %s", name, diff)
		}
	}
}

// What a policy requires every client gets, whatever it asks for, and keeps,
// unless an administrator lets that client off.
func TestRegistrationPolicyRequires(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.MTLSURL = "https://mtls.example"
		c.Registration = Registration{
			Access: registerOpen, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"},
			Require: []string{store.RequirePushed, store.RequireKeyBound, store.RequireCertificateBound},
		}
	})
	off := robotWith(store.RequirePushed, false, store.RequireKeyBound, false, store.RequireCertificateBound, false)
	made := s.jsonRequest("POST", pathRegister, "", off).json(t)
	id, management := made["client_id"].(string), made["registration_access_token"].(string)
	off["client_id"] = id
	put := func() (told map[string]any) {
		told = s.jsonRequest("PUT", pathRegister+"?client_id="+id, management, off).json(t)
		management, _ = told["registration_access_token"].(string)
		return told
	}
	for name, told := range map[string]map[string]any{"made": made, "updated": put()} {
		for _, what := range []string{store.RequirePushed, store.RequireKeyBound, store.RequireCertificateBound} {
			if told[what] != true {
				t.Errorf("%s: %s is %v", name, what, told[what])
			}
		}
	}
	if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{
		Client: &adminv1.Client{Id: id}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bind_to_key"}},
	}); err != nil {
		t.Fatal(err)
	}
	if told := put(); told[store.RequireKeyBound] != nil || told[store.RequirePushed] != true {
		t.Errorf("let off: %v", told)
	}
	for name, r := range map[string]Registration{
		"unknown": {Access: registerOpen, GrantTypes: []string{grantClientCredentials}, Require: []string{"pkce"}},
		"idle":    {Access: registerToken, Require: []string{store.RequirePushed}},
	} {
		if len(r.validate(nil)) == 0 {
			t.Errorf("%s: it is fine", name)
		}
	}
}
