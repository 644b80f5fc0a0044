package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
)

// One row, one clause. Rows without an error code must end on a page here: the
// browser is not sent anywhere (RFC 6749 §4.1.2.1).
func TestAuthorizeAttacks(t *testing.T) {
	s := newSite(t)
	sound := authorization().Encode()
	for _, row := range []struct {
		clause string
		query  string
		// code is what the client gets; empty: a page with this status.
		code   string
		status int
	}{
		{"RFC 6749 §4.1.2.1 no client", authorization("client_id", "").Encode(), "", 400},
		{"RFC 6749 §4.1.2.1 unknown client", authorization("client_id", "nobody").Encode(), "", 400},
		{"RFC 6749 §4.1.2.1 no redirect URI", authorization("redirect_uri", "").Encode(), "", 400},
		{"RFC 6749 §3.1.2.4 foreign redirect URI", authorization("redirect_uri", "https://evil.example/cb").Encode(), "", 400},
		{"RFC 9700 §4.1.1 redirect URI with a suffix", authorization("redirect_uri", webCB+"/../evil").Encode(), "", 400},
		{"RFC 9700 §4.1.1 redirect URI of another client", authorization("redirect_uri", "https://app2.example/cb").Encode(), "", 400},
		{"RFC 9700 §4.1.3 a script as redirect URI", authorization("redirect_uri", "javascript:alert(1)").Encode(), "", 400},
		{"a client without redirect URIs", authorization("client_id", "machine").Encode(), "", 400},
		{"RFC 6749 §3.1 repeated state", sound + "&state=x", "", 400},
		{"RFC 6749 §3.1 repeated redirect URI", sound + "&redirect_uri=https%3A%2F%2Fevil.example%2F", "", 400},
		{"RFC 6749 §3.1 repeated client", sound + "&client_id=web", "", 400},
		{"malformed percent", sound + "&x=%zz", "", 400},
		{"a semicolon", sound + ";x=1", "", 400},
		{"a control character", sound + "&x=%0d%0aSet-Cookie:%20a", "", 400},
		{"RFC 6749 §3.1.1 no response type", authorization("response_type", "").Encode(), codeInvalidRequest, 0},
		{"RFC 9700 §2.1.2 implicit", authorization("response_type", "token").Encode(), codeUnsupportedResponseType, 0},
		{"RFC 9700 §2.1.2 id_token token", authorization("response_type", "id_token token").Encode(), codeUnsupportedResponseType, 0},
		{"RFC 9700 §2.1.2 hybrid", authorization("response_type", "code id_token").Encode(), codeUnsupportedResponseType, 0},
		{"a response mode that leaks", authorization("response_mode", "fragment").Encode(), codeInvalidRequest, 0},
		{"a response mode that does not work", authorization("response_mode", "form_post.jwt").Encode(), codeInvalidRequest, 0},
		{"RFC 9700 §2.1.1 no PKCE, confidential client", authorization("code_challenge", "").Encode(), codeInvalidRequest, 0},
		{"RFC 9700 §2.1.1 no PKCE, public client", authorization("client_id", "spa", "redirect_uri", "https://spa.example/", "code_challenge", "").Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.3 plain", authorization("code_challenge_method", "plain").Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.3 plain by default", authorization("code_challenge_method", "").Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.3 unknown method", authorization("code_challenge_method", "s256").Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.2 challenge too short", authorization("code_challenge", "abc").Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.2 challenge too long", authorization("code_challenge", strings.Repeat("a", 44)).Encode(), codeInvalidRequest, 0},
		{"RFC 7636 §4.2 challenge no base64url", authorization("code_challenge", strings.Repeat("+", 43)).Encode(), codeInvalidRequest, 0},
		{"RFC 6749 §3.3 no scope", authorization("scope", "").Encode(), codeInvalidScope, 0},
		{"RFC 6749 §3.3 unknown scope", authorization("scope", "openid admin").Encode(), codeInvalidScope, 0},
		{"RFC 6749 §3.3 scope of no grammar", authorization("scope", "openid  read:orders").Encode(), codeInvalidScope, 0},
		{"a scope the client may not ask for", authorization("client_id", "spa", "redirect_uri", "https://spa.example/", "scope", "openid write:orders").Encode(), codeInvalidScope, 0},
		{"scopes that open nothing", authorization("scope", "profile offline_access").Encode(), codeInvalidScope, 0},
		{"RFC 8707 §2 unknown resource", authorization("resource", "https://evil.example").Encode(), codeInvalidTarget, 0},
		{"RFC 8707 §2 resource is not a prefix", authorization("resource", ordersAPI+"/").Encode(), codeInvalidTarget, 0},
		{"RFC 8707 §2 one of two unknown", authorization("resource", ordersAPI).Encode() + "&resource=x", codeInvalidTarget, 0},
		{"Core §6.1 request object", authorization("request", "e30.e30.").Encode(), codeRequestNotSupported, 0},
		{"Core §6.2 request_uri", authorization("request_uri", "https://app.example/r").Encode(), codeRequestURINotSupported, 0},
		{"RFC 9449 §10 dpop_jkt is no thumbprint", authorization("dpop_jkt", "abc").Encode(), codeInvalidRequest, 0},
		{"RFC 9126 §4 an unknown pushed request", url.Values{"client_id": {"web"}, "request_uri": {requestURIPrefix + "x"}}.Encode(), "", 400},
		{"RFC 9126 §4 parameters beside a pushed request", authorization("request_uri", requestURIPrefix+"x").Encode(), "", 400},
		{"Core §7.2.1 registration", authorization("registration", "{}").Encode(), codeRegistrationNotSupport, 0},
		{"Core §3.1.2.1 prompt none and login", authorization("prompt", "none login").Encode(), codeInvalidRequest, 0},
		{"Core §3.1.2.1 unknown prompt", authorization("prompt", "create").Encode(), codeInvalidRequest, 0},
		{"Core §3.1.2.1 prompt none, nobody there", authorization("prompt", "none").Encode(), codeLoginRequired, 0},
		{"Core §3.1.2.1 max_age no number", authorization("max_age", "-1").Encode(), codeInvalidRequest, 0},
		{"Core §3.1.2.1 id_token_hint forged", authorization("id_token_hint", "e30.e30.e30").Encode(), codeInvalidRequest, 0},
		{"a state too long", authorization("state", strings.Repeat("s", 1025)).Encode(), codeInvalidRequest, 0},
		{"a nonce too long", authorization("nonce", strings.Repeat("n", 513)).Encode(), codeInvalidRequest, 0},
		{"the longest values still fit", authorization("state", strings.Repeat("s", 1024), "nonce", strings.Repeat("n", 512), "login_hint", strings.Repeat("ä", 100), "scope", "openid").Encode(), "", 200},
	} {
		t.Run(row.clause, func(t *testing.T) {
			b := s.browser()
			a := b.get(pathAuthorize + "?" + row.query)
			if row.code == "" {
				if a.StatusCode != row.status || a.Header.Get("Location") != "" || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
					t.Errorf("answered %d, Location %q, %s", a.StatusCode, a.Header.Get("Location"), a.Header.Get("Content-Type"))
				}
				return
			}
			location := b.ended(a)
			q := location.Query()
			if q.Get("error") != row.code || q.Has("code") || q.Get("error_description") == "" {
				t.Errorf("the client got %s", location)
			}
			// RFC 9207 §2: the issuer names itself in errors as well.
			if q.Get("iss") != s.url {
				t.Errorf("iss is %q", q.Get("iss"))
			}
			if values, err := url.ParseQuery(row.query); err != nil || q.Get("state") != values.Get("state") {
				t.Errorf("state is %q", q.Get("state"))
			}
			if !strings.HasPrefix(location.String(), values(t, row.query).Get("redirect_uri")) {
				t.Errorf("the browser was sent to %s", location)
			}
		})
	}
}

func values(t *testing.T, query string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What does not fit into a cookie is the client's mistake, and it is told.
func TestRequestTooLargeForACookie(t *testing.T) {
	s := newSite(t)
	long := "https://app.example/" + strings.Repeat("p", 1800)
	err := s.server.store.CreateClient(t.Context(), store.Client{ID: "long", Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{long}})
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	a := b.get(pathAuthorize + "?" + authorization("client_id", "long", "redirect_uri", long, "scope", "openid", "state", strings.Repeat("s", 1024)).Encode())
	if q := b.ended(a).Query(); q.Get("error") != codeInvalidRequest {
		t.Errorf("answered %v", q)
	}
}

// The redirect URI's own query stays (RFC 6749 §3.1.2).
func TestRedirectURIKeepsItsQuery(t *testing.T) {
	s := newSite(t)
	q := s.browser().allow("alice", authorization("redirect_uri", "https://app.example/q?a=1")).Query()
	if q.Get("a") != "1" || q.Get("code") == "" {
		t.Errorf("query %v", q)
	}
}

// Parameters may come in a body (Core §3.1.2.1), never in body and query.
func TestAuthorizeByPOST(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	// A browser sends no Lax cookies with another site's POST, but keeps those
	// that come back.
	fromElsewhere := func(request url.Values) answer {
		a := s.request("POST", pathAuthorize, request.Encode(), header("Origin", "https://app.example"), header("Sec-Fetch-Site", "cross-site"))
		if a.StatusCode != http.StatusSeeOther {
			t.Fatalf("answered %d, not 303", a.StatusCode)
		}
		b.http.Jar.SetCookies(a.Request.URL, a.Cookies())
		return b.follow(a)
	}
	page := b.submit(fromElsewhere(authorization()), "login", "alice", "password", rightWords)
	if code := b.ended(b.submit(page, "decision", "allow")).Query().Get("code"); code == "" {
		t.Error("no code")
	}
	if q := b.ended(fromElsewhere(authorization("prompt", "none"))).Query(); q.Get("code") == "" {
		t.Errorf("prompt=none by POST with a login and a consent: %v", q)
	}
	if a := s.request("POST", pathAuthorize+"?client_id=web", authorization().Encode()); a.StatusCode != 400 || a.Header.Get("Location") != "" {
		t.Errorf("parameters in body and query: %d", a.StatusCode)
	}
	if a := s.request("PUT", pathAuthorize, ""); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, POST" {
		t.Errorf("PUT: %d, Allow %q", a.StatusCode, a.Header.Get("Allow"))
	}
}

func TestMaxAgeAndPromptLogin(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.allow("alice", authorization())
	s.clock.advance(100 * time.Second)
	for name, request := range map[string]url.Values{
		"prompt=login":          authorization("prompt", "login"),
		"prompt=select_account": authorization("prompt", "select_account"),
		"max_age":               authorization("max_age", "99"),
		"max_age=0":             authorization("max_age", "0"),
	} {
		if page := b.get(pathAuthorize + "?" + request.Encode()); !strings.Contains(page.body, `name="password"`) {
			t.Errorf("%s: no login is asked for: %d", name, page.StatusCode)
		}
	}
	if page := b.get(pathAuthorize + "?" + authorization("max_age", "100").Encode()); page.StatusCode != http.StatusSeeOther {
		t.Error("a login young enough is asked for again")
	}
	code := b.allow("alice", authorization("prompt", "login")).Query().Get("code")
	_, claims := decodeJWS(t, s.tokenAs("web", redemption(code)).json(t)["id_token"])
	if claims["auth_time"] != float64(s.clock.now().Unix()) {
		t.Errorf("auth_time %v is not the second login's", claims["auth_time"])
	}
}

// A hint at another person never yields tokens of the one who is logged in.
func TestIDTokenHint(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	hint := got["id_token"].(string)
	alice, bob := s.browser(), s.browser()
	alice.allow("alice", authorization())
	bob.allow("bob", authorization())
	if q := alice.ended(alice.get(pathAuthorize + "?" + authorization("id_token_hint", hint, "prompt", "none").Encode())).Query(); q.Get("code") == "" {
		t.Errorf("alice with her own hint: %v", q)
	}
	if q := bob.ended(bob.get(pathAuthorize + "?" + authorization("id_token_hint", hint, "prompt", "none").Encode())).Query(); q.Get("error") != codeLoginRequired {
		t.Errorf("bob with alice's hint: %v", q)
	}
	s.clock.advance(time.Second)
	page := bob.get(pathAuthorize + "?" + authorization("id_token_hint", hint).Encode())
	if q := bob.ended(bob.submit(page, "login", "bob", "password", rightWords)).Query(); q.Get("error") != codeLoginRequired {
		t.Errorf("bob logs in where alice is expected: %v", q)
	}
	for name, forged := range map[string]string{
		"an access token":       got["access_token"].(string),
		"another client's hint": hint,
		"a cut one":             hint[:len(hint)-4],
	} {
		request := authorization("id_token_hint", forged)
		if name == "another client's hint" {
			request = authorization("id_token_hint", forged, "client_id", "web2", "redirect_uri", "https://app2.example/cb")
		}
		if q := alice.ended(alice.get(pathAuthorize + "?" + request.Encode())).Query(); q.Get("error") != codeInvalidRequest {
			t.Errorf("%s: %v", name, q)
		}
	}
}

// A token of another type is no hint, even where its claims would do.
func TestHintMustBeAnIDToken(t *testing.T) {
	s := newSite(t)
	claims := []byte(`{"iss":"` + s.url + `","sub":"usr_alice","aud":["web"]}`)
	for typ, good := range map[string]bool{"JWT": true, "at+jwt": false, "logout+jwt": false} {
		signed, err := s.server.keys.Sign(t.Context(), keys.ES256, typ, claims)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.server.hinted(signed, "web"); (err == nil) != good {
			t.Errorf("typ %s: %v", typ, err)
		}
	}
}

// RFC 8707: a resource named at the authorization narrows what follows.
func TestResources(t *testing.T) {
	s := newSite(t)
	scope := "offline_access read:orders write:orders read:profile"
	got := s.tokens("scope", scope, "resource", ordersAPI)
	if aud := s.claims(got["access_token"]).Audience(); len(aud) != 1 || aud[0] != ordersAPI || got["scope"] != "offline_access read:orders write:orders" {
		t.Errorf("audience %v, scope %v", aud, got["scope"])
	}
	s.oauthError(s.refreshWith(got["refresh_token"], "resource", profileAPI), 400, codeInvalidTarget)
	s.oauthError(s.refreshWith(got["refresh_token"], "resource", "https://evil.example"), 400, codeInvalidTarget)
	both := s.tokens("scope", scope)
	narrow := s.refreshWith(both["refresh_token"], "resource", profileAPI).json(t)
	if aud := s.claims(narrow["access_token"]).Audience(); len(aud) != 1 || aud[0] != profileAPI {
		t.Errorf("narrowed to %v", aud)
	}
	s.oauthError(s.tokenAs("web", redemption(s.code("resource", ordersAPI), "resource", profileAPI)), 400, codeInvalidTarget)
	machine := url.Values{"grant_type": {grantClientCredentials}, "resource": {ordersAPI}}
	if aud := s.claims(s.tokenAs("machine", machine).json(t)["access_token"]).Audience(); len(aud) != 1 || aud[0] != ordersAPI {
		t.Errorf("a machine's audience is %v", aud)
	}
	s.oauthError(s.tokenAs("machine", with(machine, "resource", profileAPI)), 400, codeInvalidTarget)
	s.oauthError(s.tokenAs("machine", with(machine, "resource", "x")), 400, codeInvalidTarget)
}
