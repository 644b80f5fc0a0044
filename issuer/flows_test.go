package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClientCredentials(t *testing.T) {
	s := newSite(t)
	a := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}})
	if a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	got := a.json(t)
	if got["token_type"] != "Bearer" || got["expires_in"] != 600.0 || got["scope"] != "read:orders write:orders" || got["refresh_token"] != nil || got["id_token"] != nil {
		t.Errorf("response %v", got)
	}
	claims := s.claims(got["access_token"])
	if claims.Subject() != "machine" || claims.ClientID() != "machine" || claims.SubjectType() != "client" || claims.SessionID() != "" || claims.GrantID() != "" || len(claims.Roles()) != 0 {
		t.Errorf("claims %v", claims.Raw())
	}
	if diff := cmp.Diff([]string{ordersAPI}, claims.Audience()); diff != "" {
		t.Error(diff)
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Pragma") != "no-cache" {
		t.Errorf("headers %v", a.Header)
	}
}

// The whole way of a person: login, consent, code, tokens, userinfo.
func TestAuthorizationCode(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization().Encode())
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "<strong>The Shop</strong> asks you to log in") {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	page = b.submit(page, "login", "Alice", "password", rightWords)
	for _, shown := range []string{"The Shop", "alice", "read:orders", "Keep its access while you are away", "app.example"} {
		if !strings.Contains(page.body, shown) {
			t.Errorf("the consent page does not show %q", shown)
		}
	}
	location := b.ended(b.submit(page, "decision", "allow"))
	query := location.Query()
	code := query.Get("code")
	query.Del("code")
	if diff := cmp.Diff(url.Values{"state": {"st"}, "iss": {s.url}}, query); diff != "" || code == "" || !strings.HasPrefix(location.String(), webCB+"?") {
		t.Errorf("location %s: %s", location, diff)
	}
	a := s.tokenAs("web", redemption(code))
	if a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	got := a.json(t)
	claims := s.claims(got["access_token"])
	if claims.Subject() != "usr_alice" || claims.ClientID() != "web" || claims.SubjectType() != "user" || claims.SessionID() == "" || claims.GrantID() == "" || !slices.Equal(claims.Roles(), []string{"customer"}) {
		t.Errorf("claims %v", claims.Raw())
	}
	if diff := cmp.Diff([]string{s.url, ordersAPI}, claims.Audience()); diff != "" {
		t.Error(diff)
	}
	if got["scope"] != "openid profile email offline_access read:orders" {
		t.Errorf("scope %v", got["scope"])
	}
	info := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+got["access_token"].(string)))
	if diff := cmp.Diff(map[string]any{"sub": "usr_alice", "name": "Alice Example", "preferred_username": "alice", "email": "alice@example.com"}, info.json(t)); diff != "" {
		t.Error(diff)
	}
}

func TestIDToken(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	head, claims := decodeJWS(t, got["id_token"])
	if head["typ"] != "JWT" || head["alg"] != "ES256" {
		t.Errorf("header %v", head)
	}
	access := s.claims(got["access_token"])
	now := float64(s.clock.now().Unix())
	want := map[string]any{
		"iss": s.url, "sub": "usr_alice", "aud": []any{"web"}, "azp": "web", "nonce": "no", "iat": now, "exp": now + 600, "auth_time": now,
		"amr": []any{"pwd"}, "sid": access.SessionID(), "at_hash": claims["at_hash"],
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	if claims["at_hash"] != atHash(got["access_token"].(string)) {
		t.Error("at_hash is not the left half of the access token's SHA-256 (Core §3.1.3.6)")
	}
	if sub, err := s.server.hinted(got["id_token"].(string), "web"); err != nil || sub != "usr_alice" {
		t.Errorf("its signature does not verify: %v", err)
	}
	if s.tokens("scope", "read:orders")["id_token"] != nil {
		t.Error("an ID token without the scope openid")
	}
}

func TestConsentIsRemembered(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	if b.allow("alice", authorization()).Query().Get("code") == "" {
		t.Fatal("no code")
	}
	if b.ended(b.get(pathAuthorize+"?"+authorization().Encode())).Query().Get("code") == "" {
		t.Error("the second time, the consent is asked for again")
	}
	for name, request := range map[string]url.Values{
		"more scopes":    authorization("scope", "openid read:profile"),
		"prompt=consent": authorization("prompt", "consent"),
		"another client": authorization("client_id", "web2", "redirect_uri", "https://app2.example/cb"),
	} {
		if page := b.get(pathAuthorize + "?" + request.Encode()); !strings.Contains(page.body, `value="allow"`) {
			t.Errorf("%s: the consent is not asked for: %d", name, page.StatusCode)
		}
	}
	if page := b.get(pathAuthorize + "?" + authorization("scope", "openid").Encode()); page.StatusCode != http.StatusSeeOther {
		t.Error("fewer scopes are asked for again")
	}
}

// Any application can sit behind a loopback redirect, so consent is asked for
// each time (RFC 8252 §8.6).
func TestNativeClientIsAlwaysAskedFor(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	request := authorization("client_id", "cli", "redirect_uri", "http://127.0.0.1:49152/cb")
	code := b.allow("alice", request).Query().Get("code")
	if page := b.get(pathAuthorize + "?" + request.Encode()); !strings.Contains(page.body, `value="allow"`) {
		t.Error("the second time, the consent is not asked for")
	}
	a := s.request("POST", pathToken, redemption(code, "client_id", "cli", "redirect_uri", "http://127.0.0.1:49152/cb").Encode())
	if a.StatusCode != http.StatusOK || a.json(t)["refresh_token"] == nil {
		t.Errorf("redeeming: %d %s", a.StatusCode, a.body)
	}
}

func TestDeny(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", "alice", "password", rightWords)
	q := b.ended(b.submit(page, "decision", "deny")).Query()
	if q.Get("error") != "access_denied" || q.Get("state") != "st" || q.Get("iss") != s.url || q.Has("code") {
		t.Errorf("answered %v", q)
	}
}

// What a token carries is what was asked for, as far as the person's roles go.
func TestRolesLimitScopes(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	code := b.allow("bob", authorization("scope", "openid read:orders write:orders read:profile")).Query().Get("code")
	got := s.tokenAs("web", redemption(code)).json(t)
	if got["scope"] != "openid read:orders" {
		t.Errorf("a reader gets %v", got["scope"])
	}
	q := s.browser().allow("carol", authorization("scope", "read:orders")).Query()
	if q.Get("error") != "access_denied" {
		t.Errorf("a person without roles gets %v", q)
	}
}

func TestRefreshRotates(t *testing.T) {
	s := newSite(t)
	first := s.tokens()
	a := s.refreshWith(first["refresh_token"])
	if a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	second := a.json(t)
	if second["refresh_token"] == first["refresh_token"] || second["refresh_token"] == nil {
		t.Error("the refresh token was not replaced")
	}
	if _, claims := decodeJWS(t, second["id_token"]); claims["nonce"] != nil || claims["sub"] != "usr_alice" {
		t.Errorf("ID token of a refresh: %v", claims)
	}
	if s.claims(second["access_token"]).GrantID() != s.claims(first["access_token"]).GrantID() {
		t.Error("the grant changed")
	}
	narrowed := s.refreshWith(second["refresh_token"], "scope", "read:orders").json(t)
	if narrowed["scope"] != "read:orders" || narrowed["id_token"] != nil {
		t.Errorf("narrowed: %v", narrowed)
	}
	wide := s.refreshWith(narrowed["refresh_token"]).json(t)
	if wide["scope"] != first["scope"] {
		t.Errorf("after a narrowed refresh the grant is %v", wide["scope"])
	}
	s.oauthError(s.refreshWith(wide["refresh_token"], "scope", "read:profile"), 400, codeInvalidScope)
	if again := s.refreshWith(wide["refresh_token"]); again.StatusCode != http.StatusOK {
		t.Error("asking for too much used the refresh token up")
	}
}

func TestRefreshTokenNeedsConsentAndRegistration(t *testing.T) {
	s := newSite(t)
	if got := s.tokens("scope", "openid read:orders"); got["refresh_token"] != nil {
		t.Error("a refresh token without offline_access")
	}
	if got := s.tokens(); got["refresh_token"] == nil {
		t.Error("no refresh token with offline_access")
	}
	q := s.browser().allow("alice", authorization("client_id", "norefresh")).Query()
	if q.Get("error") != codeInvalidScope {
		t.Errorf("offline_access for a client that may not refresh: %v", q)
	}
}

func TestDiscovery(t *testing.T) {
	s := newSite(t)
	oidc, oauth := s.request("GET", pathDiscovery, ""), s.request("GET", pathMetadata, "")
	if oidc.body != oauth.body {
		t.Error("the two documents differ")
	}
	got := oidc.json(t)
	for name, want := range map[string]any{
		"issuer": s.url, "authorization_endpoint": s.url + "/oauth/authorize", "token_endpoint": s.url + "/oauth/token",
		"jwks_uri": s.url + "/oauth/keys", "userinfo_endpoint": s.url + "/oauth/userinfo", "revocation_endpoint": s.url + "/oauth/revoke",
		"introspection_endpoint": s.url + "/oauth/introspect", "end_session_endpoint": s.url + "/oauth/end-session",
		"response_types_supported": []any{"code"}, "response_modes_supported": []any{"query", "form_post"},
		"grant_types_supported":                            []any{"authorization_code", "refresh_token", "client_credentials", grantDeviceCode},
		"code_challenge_methods_supported":                 []any{"S256"},
		"token_endpoint_auth_methods_supported":            []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"introspection_endpoint_auth_methods_supported":    []any{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []any{"ES256", "ES384", "RS256", "PS256", "EdDSA"},
		"pushed_authorization_request_endpoint":            s.url + "/oauth/par",
		"require_pushed_authorization_requests":            false,
		"dpop_signing_alg_values_supported":                []any{"ES256", "ES384", "EdDSA"},
		"tls_client_certificate_bound_access_tokens":       nil, "mtls_endpoint_aliases": nil,
		"id_token_signing_alg_values_supported":          []any{"ES256"},
		"authorization_response_iss_parameter_supported": true,
		"request_uri_parameter_supported":                false,
		"subject_types_supported":                        []any{"public"},
		"scopes_supported":                               []any{"openid", "profile", "email", "offline_access", "read:orders", "write:orders", "read:profile"},
		"registration_endpoint":                          nil, "device_authorization_endpoint": s.url + "/oauth/device_authorization", "request_parameter_supported": nil,
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What is advertised answers.
	for name, value := range got {
		endpoint, _ := value.(string)
		if path, ok := strings.CutPrefix(endpoint, s.url+"/"); ok && s.request("GET", "/"+path, "").StatusCode == http.StatusNotFound {
			t.Errorf("%s leads nowhere", name)
		}
	}
	if cache := oidc.Header.Get("Cache-Control"); cache != "public, max-age=60" {
		t.Errorf("Cache-Control %q", cache)
	}
}

func TestKeys(t *testing.T) {
	s := newSite(t)
	a := s.request("GET", pathKeys, "")
	keys, _ := a.json(t)["keys"].([]any)
	if len(keys) == 0 || strings.Contains(a.body, `"d"`) {
		t.Errorf("keys %s", a.body)
	}
	if a.Header.Get("Cache-Control") != "public, max-age=300" || a.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("headers %v", a.Header)
	}
	head, _ := decodeJWS(t, s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)["access_token"])
	if head["typ"] != "at+jwt" || head["alg"] != "ES256" || head["kid"] != keys[0].(map[string]any)["kid"] {
		t.Errorf("header %v, keys %v", head, keys)
	}
}
