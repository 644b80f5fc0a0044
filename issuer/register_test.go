package issuer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
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
func (s *site) jsonRequest(method, path, token string, body any) answer {
	s.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		if err != nil {
			s.Fatal(err)
		}
		text = string(encoded)
	}
	return s.request(method, path, text, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	})
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
		a := s.jsonRequest("POST", pathRegister, "", robotMetadata())
		if want := map[bool]int{true: 201, false: 429}[i < openRegistrations]; a.StatusCode != want {
			t.Fatalf("registration %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	s.clock.advance(openWindow)
	if a := s.jsonRequest("POST", pathRegister, "", robotMetadata()); a.StatusCode != 201 {
		t.Errorf("an hour later: %d %s", a.StatusCode, a.body)
	}
}

// What an administrator decided about a client that registered itself, the
// client cannot undo by registering again (RFC 7592 §2.2): how long its tokens
// are good, and what it may ask for.
func TestReregistrationUndoesNoAdministration(t *testing.T) {
	s := newSite(t, registering)
	metadata := robotMetadata()
	metadata["scope"] = "read:orders write:orders"
	m := s.jsonRequest("POST", pathRegister, s.initialToken(1), metadata).json(t)
	id, management := m["client_id"].(string), m["registration_access_token"].(string)
	if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{
		Client:     &adminv1.Client{Id: id, Scopes: []string{"read:orders"}, AccessTokenLifetime: durationpb.New(time.Minute)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scopes", "access_token_lifetime"}},
	}); err != nil {
		t.Fatal(err)
	}
	put := func(scope string) answer {
		return s.jsonRequest("PUT", pathRegister+"?client_id="+id, management, map[string]any{
			"client_id": id, "grant_types": []string{grantClientCredentials}, "scope": scope,
		})
	}
	s.oauthError(put("read:orders write:orders"), 400, codeInvalidMetadata)
	if a := put("read:orders"); a.StatusCode != 200 {
		t.Fatalf("what it still may: %d %s", a.StatusCode, a.body)
	}
	c, err := s.server.store.Client(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if c.AccessTokenLifetime != time.Minute {
		t.Errorf("its tokens live %s again", c.AccessTokenLifetime)
	}
}
