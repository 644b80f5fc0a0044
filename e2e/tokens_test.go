package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token"
)

// A client finds the issuer by its metadata and works with nothing else: every
// endpoint below comes from there.
func TestTokensDiscovery(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	openid := s.Expect(t, 200, "GET", "/.well-known/openid-configuration", "").JSON(t)
	oauth := s.Expect(t, 200, "GET", "/.well-known/oauth-authorization-server", "").JSON(t)
	for _, key := range []string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"} {
		value, _ := openid[key].(string)
		if !strings.HasPrefix(value, s.URL("")) || oauth[key] != value {
			t.Errorf("%s is %q in one document and %q in the other; both must be below %s", key, value, oauth[key], s.URL(""))
		}
	}
	if openid["issuer"] != s.URL("") {
		t.Errorf("issuer %v, want %s", openid["issuer"], s.URL(""))
	}
	for key, want := range map[string]string{"code_challenge_methods_supported": "S256", "response_types_supported": "code", "id_token_signing_alg_values_supported": "ES256"} {
		if list, _ := openid[key].([]any); len(list) != 1 || list[0] != want {
			t.Errorf("%s: %v, want only %s", key, openid[key], want)
		}
	}
	client, access := s.Robot(t, "robot", "read:orders")
	endpoint := func(name string) string { return strings.TrimPrefix(openid[name].(string), s.URL("")) }
	s.Expect(t, 200, "GET", "/orders", access)
	if answer := s.Post(t, endpoint("introspection_endpoint"), client, url.Values{"token": {access}}); answer.JSON(t)["active"] != true {
		t.Errorf("introspection: %s", answer)
	}
}

// verify reads an access token as a service would: with the published keys.
func verify(t *testing.T, s *harness.System, access string) *token.Claims {
	t.Helper()
	keys, err := token.ParseKeySet([]byte(s.Expect(t, 200, "GET", "/oauth/keys", "").Body), []token.Algorithm{token.ES256})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: s.URL(""), Algorithms: []token.Algorithm{token.ES256}, Types: []string{"at+jwt"},
		MaxLifetime: 10 * time.Minute, Keys: func() *token.KeySet { return keys },
	})
	if err != nil {
		t.Fatal(err)
	}
	unverified, err := token.Parse(access)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := verifier.Verify(t.Context(), unverified)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestTokensClientCredentials(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	robot := harness.Client{ID: "robot", Secret: s.AddClient(t, "robot", "read:orders", "write:orders")}
	tokens := s.Tokens(t, robot, url.Values{"grant_type": {"client_credentials"}, "scope": {"read:orders"}})
	claims := verify(t, s, tokens.Access)
	if claims.Subject() != "robot" || claims.ClientID() != "robot" || claims.SubjectType() != "client" {
		t.Errorf("the token is for %s of %s", claims.Subject(), claims.ClientID())
	}
	if !slices.Equal(claims.Audience(), []string{harness.OrdersAPI}) || !slices.Equal(claims.Scopes(), []string{"read:orders"}) || len(claims.Roles()) != 0 {
		t.Errorf("aud %v, scope %v, roles %v", claims.Audience(), claims.Scopes(), claims.Roles())
	}
	if claims.ID() == "" || claims.SessionID() != "" || claims.GrantID() != "" {
		t.Errorf("jti %q, sid %q, grant_id %q", claims.ID(), claims.SessionID(), claims.GrantID())
	}
	if life := claims.ExpiresAt().Sub(claims.IssuedAt()); life <= 0 || life > 10*time.Minute || tokens.ExpiresIn <= 0 || tokens.ExpiresIn > 600 {
		t.Errorf("the token lives %v, expires_in is %d", life, tokens.ExpiresIn)
	}
	if tokens.Refresh != "" || tokens.ID != "" || !strings.EqualFold(tokens.Type, "Bearer") {
		t.Errorf("a program got %+v", tokens)
	}
	for name, row := range map[string]struct {
		client harness.Client
		form   url.Values
		status int
		code   string
	}{
		"a wrong secret":   {harness.Client{ID: "robot", Secret: "wrong"}, url.Values{"grant_type": {"client_credentials"}}, 401, "invalid_client"},
		"no such client":   {harness.Client{ID: "nobody", Secret: "wrong"}, url.Values{"grant_type": {"client_credentials"}}, 401, "invalid_client"},
		"a scope too many": {robot, url.Values{"grant_type": {"client_credentials"}, "scope": {"read:profile"}}, 400, "invalid_scope"},
		"no such API":      {robot, url.Values{"grant_type": {"client_credentials"}, "resource": {"https://none.example"}}, 400, "invalid_target"},
		"a password grant": {robot, url.Values{"grant_type": {"password"}, "username": {"ada"}, "password": {"x"}}, 400, "unsupported_grant_type"},
	} {
		answer := s.Post(t, "/oauth/token", row.client, row.form)
		if answer.Status != row.status || answer.JSON(t)["error"] != row.code || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s, Cache-Control %q", name, answer, answer.Header.Get("Cache-Control"))
		}
	}
	if answer := s.Call(t, "GET", "/oauth/token?grant_type=client_credentials&client_id=robot&client_secret="+robot.Secret, ""); answer.Status/100 == 2 {
		t.Errorf("credentials in a query are taken: %s", answer)
	}
}

// A person logs in and consents in a browser; the shop redeems the code.
func TestTokensCodeFlow(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	shop := s.AddShop(t, "shop", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	a := s.Authorization(shop, "openid", "read:orders")
	browser := s.NewBrowser(t)

	browser.Open(s.URL("/oauth/authorize?" + a.Query().Encode()))
	if away := browser.Follow(); away != nil || !browser.Form().Fields.Has("password") {
		t.Fatalf("not logged in, the browser is shown %s (%d)", browser.URL, browser.Status)
	}
	for header, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
		if got := browser.Header.Get(header); got != want {
			t.Errorf("the login page has %s: %q, want %q", header, got, want)
		}
	}
	if policy := browser.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("the login page may be framed: %q", policy)
	}
	browser.Submit("login", ada.Login, "password", "wrong password")
	if away := browser.Follow(); away != nil || !browser.Form().Fields.Has("password") {
		t.Fatalf("a wrong password leads to %s (%d), away to %v", browser.URL, browser.Status, away)
	}
	browser.Submit("login", ada.Login, "password", ada.Password)
	if browser.Status != http.StatusSeeOther {
		t.Errorf("the login answers %d, want 303", browser.Status)
	}
	if away := browser.Follow(); away != nil || !strings.Contains(browser.Page, "read:orders") {
		t.Fatalf("after the login comes %s (%d), not consent: %v", browser.URL, browser.Status, away)
	}
	browser.Submit("decision", "allow")
	back := browser.Follow()
	if back == nil || !strings.HasPrefix(back.String(), a.Redirect+"?") {
		t.Fatalf("consent leads to %v, not to the shop", back)
	}
	query := back.Query()
	if query.Get("state") != a.State || query.Get("iss") != s.URL("") || query.Get("code") == "" {
		t.Fatalf("the shop was given %s", back)
	}
	tokens := s.Tokens(t, shop, a.Redemption(query.Get("code")))
	claims := verify(t, s, tokens.Access)
	if claims.SubjectType() != "user" || !strings.HasPrefix(claims.Subject(), "usr_") || claims.ClientID() != "shop" {
		t.Errorf("the token is for %s of %s", claims.Subject(), claims.ClientID())
	}
	if claims.SessionID() == "" || claims.GrantID() == "" || !slices.Equal(claims.Roles(), []string{"customer"}) || !claims.HasAudience(harness.OrdersAPI) {
		t.Errorf("sid %q, grant %q, roles %v, aud %v", claims.SessionID(), claims.GrantID(), claims.Roles(), claims.Audience())
	}
	if tokens.ID == "" || tokens.Refresh != "" {
		t.Errorf("with openid and without offline_access the shop got an ID token %t, a refresh token %t", tokens.ID != "", tokens.Refresh != "")
	}
	s.Expect(t, 200, "GET", "/orders", tokens.Access)
	s.Expect(t, 401, "GET", "/orders", tokens.ID)

	// Logged in and consented, the same browser is not asked again.
	again := s.Authorization(shop, "openid", "read:orders")
	browser.Open(s.URL("/oauth/authorize?" + again.Query().Encode()))
	if away := browser.Follow(); away == nil || away.Query().Get("code") == "" {
		t.Errorf("the second time, the browser is shown %s (%d)", browser.URL, browser.Status)
	}
}

func TestTokensRefresh(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.refresh_grace", "1s")
	}})
	shop := s.AddShop(t, "shop", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	tokens := s.Login(t, shop, ada, "openid", "offline_access", "read:orders")
	if tokens.Refresh == "" {
		t.Fatal("offline_access gave no refresh token")
	}
	refresh := func(token string) url.Values {
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	}
	second := s.Tokens(t, shop, refresh(tokens.Refresh))
	if second.Refresh == "" || second.Refresh == tokens.Refresh || second.Access == tokens.Access {
		t.Fatal("a refresh did not rotate")
	}
	before, after := verify(t, s, tokens.Access), verify(t, s, second.Access)
	if before.GrantID() != after.GrantID() || before.SessionID() != after.SessionID() || before.ID() == after.ID() {
		t.Errorf("grant %s → %s, session %s → %s", before.GrantID(), after.GrantID(), before.SessionID(), after.SessionID())
	}
	// The lost answer: within the grace, the same successor comes again.
	if repeated := s.Tokens(t, shop, refresh(tokens.Refresh)); repeated.Refresh != second.Refresh {
		t.Error("a repeated refresh gave another successor")
	}
	s.Expect(t, 200, "GET", "/orders", second.Access)
	// After it, it is theft, and ends the family; it is asked for until then.
	third := s.Tokens(t, shop, refresh(second.Refresh))
	harness.Eventually(t, 5*time.Second, func() error {
		answer := s.Post(t, "/oauth/token", shop, refresh(tokens.Refresh))
		if answer.Status == 400 && answer.JSON(t)["error"] == "invalid_grant" {
			return nil
		}
		return fmt.Errorf("reuse: %s", answer)
	})
	if answer := s.Post(t, "/oauth/token", shop, refresh(third.Refresh)); answer.Status != 400 {
		t.Errorf("after a reuse the family lives on: %s", answer)
	}
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", third.Access))
}

func TestTokensRevocationAndIntrospection(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	robot, access := s.Robot(t, "robot", "read:orders")
	other := harness.Client{ID: "other", Secret: s.AddClient(t, "other", "read:orders")}
	active := func(c harness.Client, token string) any {
		return s.Post(t, "/oauth/introspect", c, url.Values{"token": {token}}).JSON(t)["active"]
	}
	description := s.Post(t, "/oauth/introspect", robot, url.Values{"token": {access}}).JSON(t)
	if description["active"] != true || description["client_id"] != "robot" || description["scope"] != "read:orders" || description["iss"] != s.URL("") {
		t.Errorf("introspection says %v", description)
	}
	if active(other, access) != false {
		t.Error("a client learned of another's token")
	}
	if answer := s.Post(t, "/oauth/introspect", harness.Client{ID: "robot", Secret: "wrong"}, url.Values{"token": {access}}); answer.Status != 401 {
		t.Errorf("introspection with a wrong secret: %s", answer)
	}
	s.Revoke(t, other, access) // RFC 7009 §2.1: not its own, so nothing happens
	s.Expect(t, 200, "GET", "/orders", access)
	s.Revoke(t, robot, access)
	if active(robot, access) != false {
		t.Error("a revoked token is active")
	}
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", access))
	s.Revoke(t, robot, "no token at all") // RFC 7009 §2.2: succeeds

	shop := s.AddShop(t, "shop", "read:orders")
	tokens := s.Login(t, shop, s.AddUser(t, "ada", "customer"), "offline_access", "read:orders")
	s.Expect(t, 200, "GET", "/orders", tokens.Access)
	s.Revoke(t, shop, tokens.Refresh)
	if answer := s.Post(t, "/oauth/token", shop, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}}); answer.Status != 400 {
		t.Errorf("a revoked refresh token: %s", answer)
	}
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", tokens.Access)) // its grant is gone
}

func TestTokensKeys(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	set := s.Expect(t, 200, "GET", "/oauth/keys", "").JSON(t)
	keys, _ := set["keys"].([]any)
	if len(keys) == 0 {
		t.Fatal("there are no keys")
	}
	for _, k := range keys {
		key, _ := k.(map[string]any)
		if key["alg"] != "ES256" || key["use"] != "sig" || key["kid"] == "" || key["d"] != nil {
			t.Errorf("a key has alg %v, use %v, kid %v, and its private part: %t", key["alg"], key["use"], key["kid"], key["d"] != nil)
		}
	}
}
