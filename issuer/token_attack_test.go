package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// One row, one clause, at the token endpoint.
func TestTokenAttacks(t *testing.T) {
	s := newSite(t)
	machine := func(pairs ...string) string {
		return with(url.Values{"grant_type": {grantClientCredentials}}, pairs...).Encode()
	}
	good := basic("machine", webSecret)
	raw := func(value string) func(*http.Request) { return header("Authorization", value) }
	for _, row := range []struct {
		clause string
		method string
		query  string
		body   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"RFC 6749 §3.2 GET", "GET", "?" + machine("client_id", "machine", "client_secret", webSecret), "", nil, 405, codeInvalidRequest},
		{"RFC 6749 §3.2 HEAD is no POST", "PUT", "", machine(), good, 405, codeInvalidRequest},
		{"RFC 6749 §2.3.1 secret in the query", "POST", "?client_id=machine&client_secret=" + webSecret, machine(), nil, 400, codeInvalidRequest},
		{"RFC 6749 §3.2 no grant type", "POST", "", "", good, 400, codeInvalidRequest},
		{"RFC 6749 §5.2 unknown grant type", "POST", "", machine("grant_type", "magic"), good, 400, codeUnsupportedGrantType},
		{"RFC 9700 §2.4 password grant", "POST", "", machine("grant_type", "password", "username", "alice", "password", rightWords), good, 400, codeUnsupportedGrantType},
		{"a grant that is not advertised", "POST", "", machine("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), good, 400, codeUnsupportedGrantType},
		{"RFC 6749 §5.2 grant not registered", "POST", "", machine(), basic("web", webSecret), 400, codeUnauthorizedClient},
		{"RFC 6749 §4.4 public client for itself", "POST", "", machine("client_id", "spa"), nil, 400, codeUnauthorizedClient},
		{"RFC 6749 §5.2 wrong secret, Basic", "POST", "", machine(), basic("machine", "wrong"), 401, codeInvalidClient},
		{"RFC 6749 §5.2 wrong secret, body", "POST", "", machine("client_id", "machine", "client_secret", "wrong"), nil, 401, codeInvalidClient},
		{"RFC 6749 §5.2 unknown client", "POST", "", machine(), basic("nobody", webSecret), 401, codeInvalidClient},
		{"RFC 6749 §5.2 unknown client, empty secret", "POST", "", machine(), basic("nobody", ""), 401, codeInvalidClient},
		{"RFC 6749 §5.2 no client", "POST", "", machine(), nil, 401, codeInvalidClient},
		{"RFC 6749 §2.3.1 confidential client without its secret", "POST", "", machine("client_id", "machine"), nil, 401, codeInvalidClient},
		{"RFC 6749 §2.3.1 empty secret", "POST", "", machine("client_id", "machine", "client_secret", ""), nil, 401, codeInvalidClient},
		{"RFC 6749 §2.3.1 empty secret, Basic", "POST", "", machine(), basic("machine", ""), 401, codeInvalidClient},
		{"a public client with a secret", "POST", "", machine("client_id", "spa", "client_secret", "x"), nil, 401, codeInvalidClient},
		{"a public client with Basic", "POST", "", machine(), basic("spa", ""), 401, codeInvalidClient},
		{"RFC 6749 §2.3 two methods", "POST", "", machine("client_id", "machine", "client_secret", webSecret), good, 400, codeInvalidRequest},
		{"RFC 6749 §2.3 two methods, both wrong", "POST", "", machine("client_secret", "x"), basic("machine", "x"), 400, codeInvalidRequest},
		{"RFC 6749 §2.3 two headers", "POST", "", machine(), header("Authorization", "Basic eDp5", "Basic eDp5"), 400, codeInvalidRequest},
		{"another client_id in the body", "POST", "", machine("client_id", "orders"), good, 400, codeInvalidRequest},
		{"RFC 7523 §2.2 a client assertion", "POST", "", machine("client_assertion", "e30.e30.e30", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), nil, 401, codeInvalidClient},
		{"Basic without base64", "POST", "", machine(), raw("Basic ###"), 401, codeInvalidClient},
		{"Basic without a colon", "POST", "", machine(), raw("Basic bWFjaGluZQ=="), 401, codeInvalidClient},
		{"RFC 6749 §2.3.1 Basic with a malformed percent", "POST", "", machine(), basic("machine", "%zz"), 401, codeInvalidClient},
		{"Bearer is no client authentication", "POST", "", machine("client_id", "spa"), raw("Bearer x"), 401, codeInvalidClient},
		{"RFC 6749 §3.2 repeated parameter", "POST", "", machine() + "&grant_type=client_credentials", good, 400, codeInvalidRequest},
		{"malformed percent", "POST", "", machine() + "&x=%zz", good, 400, codeInvalidRequest},
		{"JSON", "POST", "", `{"grant_type":"client_credentials"}`, func(r *http.Request) { good(r); r.Header.Set("Content-Type", "application/json") }, 400, codeInvalidRequest},
		{"too large", "POST", "", machine() + "&x=" + strings.Repeat("x", maxForm), good, 413, codeInvalidRequest},
		{"RFC 6749 §3.3 unknown scope", "POST", "", machine("scope", "admin"), good, 400, codeInvalidScope},
		{"RFC 6749 §3.3 scope of another client", "POST", "", machine("scope", "read:orders read:profile"), good, 400, codeInvalidScope},
		{"a machine is no person", "POST", "", machine("scope", "openid"), good, 400, codeInvalidScope},
		{"a machine is no person, though its client knows some", "POST", "", machine("scope", "read:orders openid"), basic("both", webSecret), 400, codeInvalidScope},
		{"a machine has nothing to refresh", "POST", "", machine("scope", "offline_access"), good, 400, codeInvalidScope},
		{"RFC 6749 §3.3 scope of no grammar", "POST", "", machine("scope", "read:orders\"x"), good, 400, codeInvalidScope},
		{"RFC 6749 §4.1.3 no code", "POST", "", redemption("").Encode(), basic("web", webSecret), 400, codeInvalidRequest},
		{"RFC 6749 §4.1.3 unknown code", "POST", "", redemption("x").Encode(), basic("web", webSecret), 400, codeInvalidGrant},
		{"RFC 6749 §6 no refresh token", "POST", "", machine("grant_type", grantRefreshToken), basic("web", webSecret), 400, codeInvalidRequest},
		{"RFC 6749 §6 unknown refresh token", "POST", "", machine("grant_type", grantRefreshToken, "refresh_token", "x"), basic("web", webSecret), 400, codeInvalidGrant},
		{"RFC 6749 §6 client may not refresh", "POST", "", machine("grant_type", grantRefreshToken, "refresh_token", "x"), basic("norefresh", webSecret), 400, codeUnauthorizedClient},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			change := row.change
			if change == nil {
				change = func(*http.Request) {}
			}
			a := s.request(row.method, pathToken+row.query, row.body, change)
			s.oauthError(a, row.status, row.code)
			if (a.StatusCode == 401) != (a.Header.Get("WWW-Authenticate") == basicChallenge) {
				t.Errorf("status %d with WWW-Authenticate %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
			}
			if strings.Contains(a.body, "wrong") || strings.Contains(a.body, "admin") {
				t.Errorf("the answer repeats what was sent: %s", a.body)
			}
		})
	}
}

func TestClientSecretPost(t *testing.T) {
	s := newSite(t)
	a := s.request("POST", pathToken, url.Values{"grant_type": {grantClientCredentials}, "client_id": {"machine"}, "client_secret": {webSecret}}.Encode())
	if a.StatusCode != http.StatusOK {
		t.Error(a.body)
	}
}

// One row, one way to redeem a good code wrongly.
func TestRedemptionAttacks(t *testing.T) {
	s := newSite(t)
	for _, row := range []struct {
		clause string
		client string
		pairs  []string
		wait   time.Duration
		code   string
	}{
		{"RFC 6749 §4.1.3 another client", "web2", nil, 0, codeInvalidGrant},
		{"RFC 6749 §4.1.3 no redirect URI", "web", []string{"redirect_uri", ""}, 0, codeInvalidRequest},
		{"RFC 6749 §4.1.3 another redirect URI", "web", []string{"redirect_uri", "https://app.example/q?a=1"}, 0, codeInvalidGrant},
		{"RFC 7636 §4.5 no verifier", "web", []string{"code_verifier", ""}, 0, codeInvalidRequest},
		{"RFC 7636 §4.6 another verifier", "web", []string{"code_verifier", strings.Repeat("a", 43)}, 0, codeInvalidGrant},
		{"RFC 7636 §4.6 the challenge as verifier", "web", []string{"code_verifier", challengeOf(testVerifier)}, 0, codeInvalidGrant},
		{"RFC 7636 §4.1 verifier too short", "web", []string{"code_verifier", "abc"}, 0, codeInvalidGrant},
		{"RFC 9700 §2.1.1 code too old", "web", nil, time.Minute, codeInvalidGrant},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			code := s.code()
			s.clock.advance(row.wait)
			s.oauthError(s.tokenAs(row.client, redemption(code, row.pairs...)), 400, row.code)
		})
	}
}

// A code of another client's stays good: who finds one cannot spoil it.
func TestForeignClientDoesNotSpoilACode(t *testing.T) {
	s := newSite(t)
	code := s.code()
	s.oauthError(s.tokenAs("web2", redemption(code)), 400, codeInvalidGrant)
	if a := s.tokenAs("web", redemption(code)); a.StatusCode != http.StatusOK {
		t.Errorf("the rightful client: %s", a.body)
	}
}

// A wrong verifier spends the code: whoever found one has one guess.
func TestWrongVerifierSpendsTheCode(t *testing.T) {
	s := newSite(t)
	code := s.code()
	s.oauthError(s.tokenAs("web", redemption(code, "code_verifier", strings.Repeat("a", 43))), 400, codeInvalidGrant)
	s.oauthError(s.tokenAs("web", redemption(code)), 400, codeInvalidGrant)
}

// What a role or a registration takes away is gone at the next refresh.
func TestRefreshFollowsRegistration(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	if err := s.server.store.RevokeUser(t.Context(), "usr_alice"); err != nil {
		t.Fatal(err)
	}
	s.oauthError(s.refreshWith(got["refresh_token"]), 400, codeInvalidGrant)
	if a := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+got["access_token"].(string))); a.StatusCode != 401 {
		t.Errorf("userinfo after the user was revoked: %d", a.StatusCode)
	}
	// A login afterwards works at once: its tokens are dated after the revocation.
	if a := s.refreshWith(s.tokens()["refresh_token"]); a.StatusCode != http.StatusOK {
		t.Errorf("after logging in again: %s", a.body)
	}
}

// What the roles no longer give is gone at once: between code and token, and
// at the next refresh.
func TestTokensFollowRoles(t *testing.T) {
	s := newSite(t)
	code, tokens := s.code(), s.tokens()
	less := s.server.config
	less.Roles = map[string][]string{"customer": {"read:profile"}}
	s.server.catalog = newCatalog(less)
	for name, a := range map[string]answer{"code": s.tokenAs("web", redemption(code)), "refresh": s.refreshWith(tokens["refresh_token"])} {
		if got := a.json(t)["scope"]; got != "openid profile email offline_access" {
			t.Errorf("%s: scope %v", name, got)
		}
	}
}

// A client without a secret gets nothing for its name, however it is registered.
func TestPublicClientGetsNoTokenForItself(t *testing.T) {
	s := newSite(t)
	for kind, id := range map[store.ClientType]string{store.Public: "odd-browser", store.Native: "odd-native"} {
		if err := s.server.store.CreateClient(t.Context(), store.Client{ID: id, Type: kind, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}}); err != nil {
			t.Fatal(err)
		}
		s.oauthError(s.request("POST", pathToken, url.Values{"grant_type": {grantClientCredentials}, "client_id": {id}}.Encode()), 400, codeUnauthorizedClient)
	}
}

// The grant's end is absolute.
func TestRefreshEnds(t *testing.T) {
	s := newSite(t, func(c *Config) { c.RefreshLifetime = 15 * time.Minute })
	got := s.tokens()
	s.clock.advance(10 * time.Minute)
	got = s.refreshWith(got["refresh_token"]).json(t)
	if got["expires_in"] != 300.0 {
		t.Errorf("an access token outlives its grant: %v", got["expires_in"])
	}
	s.clock.advance(5 * time.Minute)
	s.oauthError(s.refreshWith(got["refresh_token"]), 400, codeInvalidGrant)
}

// The clock stands still between a revocation and the next token: the token is
// dated after it.
func TestTokenAfterRevocationIsDatedAfterIt(t *testing.T) {
	s := newSite(t)
	ask := func() string {
		return s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)["access_token"].(string)
	}
	before := s.claims(ask())
	if err := s.server.store.RevokeClient(t.Context(), "machine"); err != nil {
		t.Fatal(err)
	}
	after := s.claims(ask())
	if !after.IssuedAt().After(before.IssuedAt()) {
		t.Errorf("issued at %s and %s", before.IssuedAt(), after.IssuedAt())
	}
	for claims, want := range map[bool]bool{false: false, true: true} {
		token := before
		if claims {
			token = after
		}
		if alive, err := s.server.store.Alive(t.Context(), refsOf(token)); err != nil || alive != want {
			t.Errorf("alive %t, %v", alive, err)
		}
	}
}
