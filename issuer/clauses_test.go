package issuer

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// Clauses that no other test has in hand; docs/standards.md has them all.

// What an endpoint does not know is ignored (RFC 6749 §3.1, §3.2), and so is
// what OpenID Connect Core §15.1 wants to be no error.
func TestUnknownParametersAreIgnored(t *testing.T) {
	s := deviceSite(t)
	for _, name := range []string{"x", "display", "claims_locales", "acr_values", "ui_locales", "claims", "audience"} {
		if q := s.browser().allow("alice", authorization(name, "page")).Query(); q.Get("code") == "" {
			t.Errorf("authorize with %s: %v", name, q)
		}
	}
	s.pushed(s.push(authorization("x", "y")))
	s.device("x", "y")
	for path, body := range map[string]string{
		pathToken: "grant_type=client_credentials&x=y", pathRevoke: "token=x&x=y", pathIntrospect: "token=x&x=y",
	} {
		if a := s.request("POST", path, body, basic("machine", webSecret)); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
}

// Inside of Basic, id and secret are encoded as in a form (RFC 6749 §2.3.1).
func TestBasicCredentialsAreFormEncoded(t *testing.T) {
	s := newSite(t)
	const id, secret = "odd:client+1 ä", "s:+%&= ü"
	s.register(store.Client{ID: id, Type: store.Confidential, Secret: store.HashOf(secret), GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}})
	if a := s.tokenWith(machineGrant, basic(url.QueryEscape(id), url.QueryEscape(secret))); a.StatusCode != http.StatusOK {
		t.Errorf("encoded: %d %s", a.StatusCode, a.body)
	}
	s.oauthError(s.tokenWith(machineGrant, basic(url.QueryEscape(id), "s:+%25&= ü")), 401, codeInvalidClient) // + is a blank
}

// A hint narrows no search (RFC 7662 §2.1).
func TestIntrospectionHints(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	for _, name := range []string{"access_token", "refresh_token"} {
		for _, hint := range []string{"access_token", "refresh_token", "x"} {
			a := s.request("POST", pathIntrospect, url.Values{"token": {got[name].(string)}, "token_type_hint": {hint}}.Encode(), basic("web", webSecret))
			if a.StatusCode != 200 || a.json(t)["active"] != true {
				t.Errorf("%s with the hint %s: %d %s", name, hint, a.StatusCode, a.body)
			}
		}
	}
}

// The ID token of a refresh is about the same login (OpenID Connect Core
// §12.2), however often it is refreshed.
func TestIDTokenOfARefresh(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	_, first := decodeJWS(t, got["id_token"])
	for range 2 {
		s.clock.advance(time.Hour)
		got = s.refreshWith(got["refresh_token"]).json(t)
		_, next := decodeJWS(t, got["id_token"])
		for _, name := range []string{"iss", "sub", "aud", "azp", "auth_time", "sid"} {
			if diff := cmp.Diff(first[name], next[name]); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if access := s.claims(got["access_token"]).Raw(); fmt.Sprint(access["auth_time"]) != fmt.Sprintf("%.0f", first["auth_time"]) {
			t.Errorf("the access token's auth_time is %v (RFC 9068 §2.2.1)", access["auth_time"])
		}
		if next["iat"] != float64(s.clock.now().Unix()) || next["nonce"] != nil {
			t.Errorf("iat %v, nonce %v", next["iat"], next["nonce"])
		}
	}
}

// The refresh tokens of a public client are worth nothing without its
// certificate (RFC 8705 §4), nor are its access tokens at userinfo (§3).
func TestRefreshTokensAreBoundToTheirCertificate(t *testing.T) {
	s := newSite(t, func(c *Config) { c.MTLSURL = "https://mtls.example" })
	own, other := newParty(t, nil, same), newParty(t, nil, same)
	const back = "https://certified.example/"
	s.register(store.Client{
		ID: "certified", Type: store.Public, GrantTypes: []string{grantAuthorizationCode, grantRefreshToken},
		Scopes: []string{"read:orders"}, RedirectURIs: []string{back}, BindToCertificate: true,
	})
	code := s.browser().allow("alice", authorization("client_id", "certified", "redirect_uri", back, "scope", "openid offline_access read:orders")).Query().Get("code")
	redeem := redemption(code, "client_id", "certified", "redirect_uri", back)
	s.oauthError(s.tokenWith(redeem), 400, codeInvalidRequest)
	got := s.tokenWith(redeem, shown(own)).json(t)
	refresh, _ := got["refresh_token"].(string)
	again := url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {refresh}, "client_id": {"certified"}}
	s.oauthError(s.tokenWith(again), 400, codeInvalidRequest)
	s.oauthError(s.tokenWith(again, shown(other)), 400, codeInvalidGrant)
	got = s.tokenWith(again, shown(own)).json(t)
	access, _ := got["access_token"].(string)
	described := s.request("POST", pathIntrospect, url.Values{"token": {access}}.Encode(), basic("orders", webSecret)).json(t)
	if diff := cmp.Diff(map[string]any{"x5t#S256": token.CertificateThumbprint(own.certificate)}, described["cnf"]); diff != "" {
		t.Errorf("introspection (RFC 8705 §3.2): %s", diff)
	}
	bearer := header("Authorization", "Bearer "+access)
	for name, row := range map[string]struct {
		show   func(*http.Request)
		status int
	}{
		"its certificate": {shown(own), 200}, "another": {shown(other), 401}, "none": {func(*http.Request) {}, 401},
	} {
		if a := s.request("GET", pathUserinfo, "", bearer, row.show); a.StatusCode != row.status {
			t.Errorf("userinfo with %s: %d %s", name, a.StatusCode, a.body)
		}
	}
}

// A token that is bound to a key is exchanged by who proves the key, and what
// comes of it is bound too: an exchange undoes no binding (RFC 7800 §3.1).
func TestExchangeKeepsBindings(t *testing.T) {
	s := exchangeSite(t)
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	bound := s.tokenWith(redemption(s.code()), basic("web", webSecret), s.proof(key, "POST", pathToken, "")).json(t)["access_token"]
	ask := func(change ...func(*http.Request)) answer {
		return s.tokenWith(exchange(bound), append(change, basic("svc", webSecret))...)
	}
	s.oauthError(ask(), 400, codeInvalidRequest)
	s.oauthError(ask(s.proof(other, "POST", pathToken, "")), 400, codeInvalidRequest)
	a := ask(s.proof(key, "POST", pathToken, ""))
	if a.StatusCode != 200 || s.claims(a.json(t)["access_token"]).Confirmation().KeyThumbprint != key.Thumbprint() || a.json(t)["token_type"] != "DPoP" {
		t.Errorf("with its proof: %d %s", a.StatusCode, a.body)
	}
}

// The logout endpoint takes POST as well (RP-Initiated Logout §2). A browser
// sends no Lax cookies with another site's POST, so a page of ours sends the
// form once more.
func TestLeavingByPOST(t *testing.T) {
	s := newSite(t)
	s.leaver()
	b, hint := s.loggedIn()
	session := b.session()
	request := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {afterURI}, "state": {"x"}}
	page := s.request("POST", login.PathEndSession, request.Encode(), header("Origin", "https://app.example"), header("Sec-Fetch-Site", "cross-site"))
	if page.StatusCode != http.StatusOK || len(page.Header["Set-Cookie"]) > 0 || !strings.Contains(page.body, `action="`+s.url+login.PathEndSession+`"`) {
		t.Fatalf("%d %v\n%s", page.StatusCode, page.Header, page.body)
	}
	if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' https:;") {
		t.Errorf("the browser would hold the redirect: %q", policy)
	}
	if a := b.post(login.PathEndSession, page.fields()); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != afterURI+"?state=x" {
		t.Errorf("%d, to %q", a.StatusCode, a.Header.Get("Location"))
	}
	if _, _, err := s.server.store.SessionByCookie(t.Context(), store.HashOf(session)); err == nil || b.session() != "" {
		t.Error("the session is alive")
	}
	nobody := s.browser()
	if a := nobody.post(login.PathEndSession, request); a.Header.Get("Location") != afterURI+"?state=x" {
		t.Errorf("nobody is logged in: %d, to %q", a.StatusCode, a.Header.Get("Location"))
	}
	if a := s.request("POST", login.PathEndSession, with(request, "post_logout_redirect_uri", "https://evil.example/").Encode(), header("Sec-Fetch-Site", "cross-site")); a.StatusCode != 400 {
		t.Errorf("a target that is not registered: %d", a.StatusCode)
	}
}

// What a registration does not know is left out of it, and what it leaves out
// has its default (RFC 7591 §2).
func TestRegistrationDefaults(t *testing.T) {
	s := newSite(t, registering)
	a := s.jsonRequest("POST", pathRegister, s.initialToken(1), map[string]any{"redirect_uris": []string{"https://app.example/cb"}, "x": 1, "logo_uri": "https://app.example/l"})
	if a.StatusCode != 201 {
		t.Fatal(a.body)
	}
	m := a.json(t)
	want := map[string]any{
		"token_endpoint_auth_method": methodBasic, "grant_types": []any{grantAuthorizationCode}, "response_types": []any{"code"},
		"redirect_uris": []any{"https://app.example/cb"}, "client_secret_expires_at": 0.0, "x": nil, "logo_uri": nil,
	}
	for name, value := range want {
		if diff := cmp.Diff(value, m[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if id, _ := m["client_id"].(string); id == "" || m["client_secret"] == nil || m["client_id_issued_at"] != float64(s.clock.now().Unix()) {
		t.Errorf("answered %v", m)
	}
}

// Of a client's secret, a refresh token, a code and a device's codes only
// hashes are kept (RFC 6819 §5.1.4.1.3).
func TestSecretsAreNotStored(t *testing.T) {
	s := deviceSite(t)
	code, tokens, device := s.code(), s.tokens(), s.device()
	copied := s.backup()
	for name, secret := range map[string]any{
		"client secret": webSecret, "code": code, "refresh token": tokens["refresh_token"], "access token": tokens["access_token"],
		"device code": device["device_code"], "user code": strings.ReplaceAll(device["user_code"].(string), "-", ""), "password": rightWords,
	} {
		if strings.Contains(copied, secret.(string)) {
			t.Errorf("a %s is stored in the plain", name)
		}
	}
	if !strings.Contains(copied, "usr_alice") {
		t.Error("what is stored cannot be searched: nothing is proven")
	}
}

// Nothing that has a secret in it is kept by a cache (RFC 6749 §5.1, RFC 7662
// §4, RFC 8628 §3.2, RFC 9126 §2.2).
func TestAnswersAreNotCached(t *testing.T) {
	s := deviceSite(t)
	access := s.tokens()["access_token"].(string)
	for name, a := range map[string]answer{
		"token": s.tokenAs("machine", machineGrant), "par": s.push(authorization()), "device": s.authorizeDevice(),
		"introspection": s.request("POST", pathIntrospect, url.Values{"token": {access}}.Encode(), basic("web", webSecret)),
		"userinfo":      s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+access)),
		"code":          s.request("GET", pathAuthorize+"?"+authorization("prompt", "none").Encode(), ""),
	} {
		if a.StatusCode >= 400 || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, Cache-Control %q", name, a.StatusCode, a.Header.Get("Cache-Control"))
		}
	}
}

// A logout token is signed as the client's ID tokens are (Back-Channel Logout
// §2.4), and is for nothing else.
func TestLogoutTokensAreSignedAsIDTokens(t *testing.T) {
	arrived := make(chan string, 1)
	party := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.PostFormValue("logout_token") }))
	defer party.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: party.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *Config) {
		c.Keys.Algorithms = keys.Algorithms()
		c.BackchannelLogout = BackchannelLogout{AllowInternal: true, CA: conf.Path(file)}
	})
	s.register(store.Client{ID: "told", Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{webCB}, BackchannelLogoutURI: party.URL, IDTokenAlgorithm: keys.PS256})
	code := s.browser().allow("alice", authorization("client_id", "told", "scope", "openid")).Query().Get("code")
	got := s.tokenWith(redemption(code, "client_id", "told")).json(t)
	id, _ := decodeJWS(t, got["id_token"])
	if err := s.server.store.RevokeSession(t.Context(), s.claims(got["access_token"]).SessionID()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.server.logouts.Run(ctx) }()
	head, claims := decodeJWS(t, <-arrived)
	if head["alg"] != keys.PS256 || head["alg"] != id["alg"] || head["kid"] != id["kid"] || head["typ"] != "logout+jwt" || claims["aud"] != "told" {
		t.Errorf("header %v, ID token's %v, claims %v", head, id, claims)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
