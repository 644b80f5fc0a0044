package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

const afterURI = "https://app.example/bye"

// leaver is a client that may send people somewhere after the logout.
func (s *site) leaver() {
	s.Helper()
	err := s.server.store.CreateClient(s.Context(), store.Client{
		ID: "leaver", Name: "The Leaver", Type: store.Confidential, Secret: store.HashOf(webSecret),
		GrantTypes: []string{grantAuthorizationCode}, Scopes: []string{"read:orders"}, RedirectURIs: []string{webCB},
		PostLogoutRedirectURIs: []string{afterURI, "https://app.example/bye?a=1"},
	})
	if err != nil {
		s.Fatal(err)
	}
}

// loggedIn is a browser that logged in for the leaver, and its ID token.
func (s *site) loggedIn() (*browser, string) {
	s.Helper()
	b := s.browser()
	code := b.allow("alice", authorization("client_id", "leaver", "scope", "openid read:orders")).Query().Get("code")
	return b, s.tokenAs("leaver", redemption(code)).json(s.T)["id_token"].(string)
}

func leaving(pairs ...string) string {
	return login.PathEndSession + "?" + with(url.Values{}, pairs...).Encode()
}

// A person who comes by themselves is asked, and the session, its grants and
// tokens end.
func TestEndSession(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	tokens := s.tokenAs("web", redemption(b.allow("alice", authorization()).Query().Get("code"))).json(t)
	page := b.get(login.PathEndSession)
	if !s.active(tokens["access_token"]) || !strings.Contains(page.body, "alice") {
		t.Error("coming to the page logged out already")
	}
	foreign := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	if a := b.post(login.PathEndSession, url.Values{}, foreign); a.StatusCode != 200 || !s.active(tokens["access_token"]) {
		t.Errorf("another site's POST logged out: %d", a.StatusCode)
	}
	if a := b.post(login.PathEndSession, page.fields(), foreign); a.StatusCode != 403 || !s.active(tokens["access_token"]) {
		t.Errorf("another site's POST with the form's token: %d", a.StatusCode)
	}
	if a := b.post(login.PathEndSession, page.fields("csrf", "x")); a.StatusCode != 403 || !s.active(tokens["access_token"]) {
		t.Errorf("a wrong token: %d", a.StatusCode)
	}
	if done := b.submit(page); done.StatusCode != 200 || !strings.Contains(done.body, "You are logged out") {
		t.Errorf("after logging out: %d", done.StatusCode)
	}
	if s.active(tokens["access_token"]) || s.active(tokens["refresh_token"]) {
		t.Error("the session's tokens are alive")
	}
	if page := b.get(pathAuthorize + "?" + authorization().Encode()); !strings.Contains(page.body, `name="password"`) {
		t.Error("the session is alive")
	}
}

// A client that shows an ID token of the browser's session need not ask; the
// browser goes where the client registered, with its state.
func TestLeavingByHint(t *testing.T) {
	s := newSite(t)
	s.leaver()
	b, hint := s.loggedIn()
	s.clock.advance(time.Hour) // expired, which does not matter (RP-Initiated Logout §2)
	session := b.session()
	a := b.get(leaving("id_token_hint", hint, "post_logout_redirect_uri", afterURI, "state", "s&t"))
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != afterURI+"?state=s%26t" {
		t.Errorf("%d, to %q", a.StatusCode, a.Header.Get("Location"))
	}
	old := s.request("GET", pathAuthorize+"?"+authorization("prompt", "none").Encode(), "", header("Cookie", "__Host-gatehouse-session="+session))
	if b.session() != "" || !strings.Contains(old.Header.Get("Location"), "login_required") {
		t.Error("the session is alive")
	}
	// Nobody is logged in: there is nothing to ask.
	a = b.get(leaving("client_id", "leaver", "post_logout_redirect_uri", "https://app.example/bye?a=1", "state", "x"))
	if a.Header.Get("Location") != "https://app.example/bye?a=1&state=x" {
		t.Errorf("nobody is logged in, and it goes to %q", a.Header.Get("Location"))
	}
}

// Without the hint, or with that of another session, the person is asked, and
// goes where the client said once they agreed.
func TestLeavingAsks(t *testing.T) {
	s := newSite(t)
	s.leaver()
	_, foreign := s.loggedIn()
	for name, request := range map[string]string{
		"without a hint":         leaving("client_id", "leaver", "post_logout_redirect_uri", afterURI, "state", "x"),
		"another session's hint": leaving("id_token_hint", foreign, "post_logout_redirect_uri", afterURI, "state", "x"),
	} {
		b, _ := s.loggedIn()
		page := b.get(request)
		if page.StatusCode != 200 || !strings.Contains(page.body, "The Leaver") || b.session() == "" {
			t.Fatalf("%s: not asked: %d", name, page.StatusCode)
		}
		if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https:;") {
			t.Errorf("%s: the browser would hold the redirect: %q", name, csp)
		}
		if tampered := b.post(login.PathEndSession, page.fields("post_logout_redirect_uri", "https://evil.example/")); tampered.StatusCode != 400 || b.session() == "" {
			t.Errorf("%s: a tampered form: %d", name, tampered.StatusCode)
		}
		if done := b.submit(page); done.Header.Get("Location") != afterURI+"?state=x" || b.session() != "" {
			t.Errorf("%s: it goes to %q", name, done.Header.Get("Location"))
		}
	}
}

// What a client may not ask is told on a page; the browser goes nowhere and
// stays logged in.
func TestLeavingRefuses(t *testing.T) {
	s := newSite(t)
	s.leaver()
	s.register(store.Client{ID: "switched-off", Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{webCB}, PostLogoutRedirectURIs: []string{afterURI}, Disabled: true})
	b, hint := s.loggedIn()
	tokens := s.tokens()
	tampered := hint[:len(hint)-2] + "AA"
	for name, pairs := range map[string][]string{
		"an unregistered target":       {"id_token_hint", hint, "post_logout_redirect_uri", "https://evil.example/"},
		"the target and more":          {"id_token_hint", hint, "post_logout_redirect_uri", afterURI + "/"},
		"the target in capitals":       {"id_token_hint", hint, "post_logout_redirect_uri", "https://APP.example/bye"},
		"a redirect URI of the login":  {"id_token_hint", hint, "post_logout_redirect_uri", webCB},
		"a target of nobody":           {"post_logout_redirect_uri", afterURI},
		"another client's target":      {"client_id", "web", "post_logout_redirect_uri", afterURI},
		"a hint for another client":    {"client_id", "web", "id_token_hint", hint, "post_logout_redirect_uri", afterURI},
		"an unknown client":            {"client_id", "nobody"},
		"a client that is disabled":    {"client_id", "switched-off", "post_logout_redirect_uri", afterURI},
		"a hint with a bad signature":  {"id_token_hint", tampered, "post_logout_redirect_uri", afterURI},
		"an access token as the hint":  {"id_token_hint", tokens["access_token"].(string), "post_logout_redirect_uri", afterURI},
		"no token as the hint":         {"id_token_hint", "x", "client_id", "leaver"},
		"a state without end":          {"id_token_hint", hint, "post_logout_redirect_uri", afterURI, "state", strings.Repeat("s", maxState+1)},
		"a script as the target":       {"id_token_hint", hint, "post_logout_redirect_uri", "javascript:alert(1)"},
		"a target with another's host": {"id_token_hint", hint, "post_logout_redirect_uri", "https://app.example@evil.example/bye"},
	} {
		a := b.get(leaving(pairs...))
		if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || !strings.Contains(a.body, "made a mistake") {
			t.Errorf("%s: %d, to %q", name, a.StatusCode, a.Header.Get("Location"))
		}
		if b.session() == "" {
			t.Fatalf("%s: logged out", name)
		}
	}
	if a := s.request("GET", login.PathEndSession+"?state=a&state=b", ""); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a parameter twice: %d", a.StatusCode)
	}
}

// A logout token is no hint: it is signed by the same keys.
func TestLogoutTokenIsNoHint(t *testing.T) {
	s := newSite(t)
	s.leaver()
	signed, err := s.server.keys.Sign(t.Context(), keys.ES256, "logout+jwt", []byte(`{"iss":"`+s.url+`","sub":"x","aud":"leaver","sid":"y"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.server.hint(signed); err == nil {
		t.Error("it is taken for an ID token")
	}
}
