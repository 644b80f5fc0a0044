package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// What authorization servers commonly leave open, one test each.

// PKCE is neither optional nor downgraded, for no kind of client, at neither
// end.
func TestPitfall01PKCEForEveryClient(t *testing.T) {
	s := newSite(t)
	clients := map[string]url.Values{
		"confidential": authorization(),
		"public":       authorization("client_id", "spa", "redirect_uri", "https://spa.example/"),
		"native":       authorization("client_id", "cli", "redirect_uri", "http://127.0.0.1:7777/cb"),
	}
	for kind, request := range clients {
		for name, pairs := range map[string][]string{
			"none": {"code_challenge", "", "code_challenge_method", ""}, "plain": {"code_challenge_method", "plain"}, "no method": {"code_challenge_method", ""},
		} {
			changed := with(url.Values(http.Header(request).Clone()), pairs...)
			if q := s.browser().allow("alice", changed).Query(); q.Get("error") != codeInvalidRequest || q.Has("code") {
				t.Errorf("%s client, %s: %v", kind, name, q)
			}
		}
		code := s.browser().allow("alice", request).Query().Get("code")
		without := redemption(code, "redirect_uri", request.Get("redirect_uri"), "code_verifier", "")
		authenticate := basic("web", webSecret)
		if kind != "confidential" {
			without.Set("client_id", request.Get("client_id"))
			authenticate = func(*http.Request) {}
		}
		s.oauthError(s.request("POST", pathToken, without.Encode(), authenticate), 400, codeInvalidRequest)
	}
}

// Of 32 parallel redemptions one succeeds, and the others revoke what it was
// given.
func TestPitfall02CodeIsRedeemedOnce(t *testing.T) {
	s := newSite(t)
	won := s.race(32, redemption(s.code()))
	if len(won) != 1 {
		t.Fatalf("%d of 32 redemptions succeeded", len(won))
	}
	s.oauthError(s.refreshWith(won[0]["refresh_token"]), 400, codeInvalidGrant)
	claims := s.claims(won[0]["access_token"])
	if alive, err := s.server.store.Alive(t.Context(), refsOf(claims)); err != nil || alive {
		t.Errorf("the access token of a replayed code is alive: %t, %v", alive, err)
	}
	if !strings.Contains(s.log.String(), "a used credential came again") {
		t.Error("the replay was not recorded")
	}
}

// race sends a token request many times at once and returns what succeeded.
func (s *site) race(n int, request url.Values) (won []map[string]any) {
	s.Helper()
	var mu sync.Mutex
	var group errgroup.Group
	for range n {
		group.Go(func() error {
			a := s.tokenAs("web", request)
			mu.Lock()
			defer mu.Unlock()
			if a.StatusCode == http.StatusOK {
				won = append(won, a.json(s))
			} else if a.StatusCode != http.StatusBadRequest {
				s.Errorf("answered %d %s", a.StatusCode, a.body)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		s.Fatal(err)
	}
	return won
}

// Credentials are never taken from a URL.
func TestPitfall03CredentialsOnlyInABody(t *testing.T) {
	s := newSite(t)
	query := "?" + url.Values{"grant_type": {grantClientCredentials}, "client_id": {"machine"}, "client_secret": {webSecret}}.Encode()
	s.oauthError(s.request("GET", pathToken+query, ""), 405, codeInvalidRequest)
	s.oauthError(s.request("POST", pathToken+query, ""), 400, codeInvalidRequest)
	s.oauthError(s.request("POST", pathRevoke+"?token=x", "token=x", basic("web", webSecret)), 400, codeInvalidRequest)
	s.oauthError(s.request("POST", pathIntrospect+"?token=x", "token=x", basic("orders", webSecret)), 400, codeInvalidRequest)
	access := s.tokens()["access_token"].(string)
	if a := s.request("GET", pathUserinfo+"?access_token="+access, ""); a.StatusCode != 401 {
		t.Errorf("userinfo with the token in the query: %d", a.StatusCode)
	}
	if a := s.request("POST", pathUserinfo, "access_token="+access); a.StatusCode != 401 {
		t.Errorf("userinfo with the token in the body: %d", a.StatusCode)
	}
}

// A wrong secret is 401 invalid_client with a challenge, at every endpoint, and
// token responses are not stored.
func TestPitfall04WrongSecret(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{pathToken, pathRevoke, pathIntrospect} {
		a := s.request("POST", path, "grant_type=client_credentials&token=x", basic("machine", "wrong"))
		s.oauthError(a, 401, codeInvalidClient)
		if a.Header.Get("WWW-Authenticate") != basicChallenge {
			t.Errorf("%s: WWW-Authenticate %q", path, a.Header.Get("WWW-Authenticate"))
		}
	}
	if a := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}); a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a token response has Cache-Control %q", a.Header.Get("Cache-Control"))
	}
}

// Scripts of other origins read nothing, and the authorization endpoint knows
// no CORS at all.
func TestPitfall05CORS(t *testing.T) {
	s := newSite(t)
	preflight := func(path, origin string) answer {
		return s.request("OPTIONS", path, "", header("Origin", origin), header("Access-Control-Request-Method", "POST"))
	}
	for _, row := range []struct {
		path, origin string
		allowed      bool
	}{
		{pathToken, "https://spa.example", true},
		{pathUserinfo, "https://spa.example", true},
		{pathRevoke, "https://spa.example", true},
		{pathToken, "https://evil.example", false},
		{pathToken, "https://app.example", false}, // a confidential client has a server
		{pathToken, "null", false},
		{pathToken, "https://spa.example.evil.example", false},
		{pathToken, "http://spa.example", false},
		{pathIntrospect, "https://spa.example", false},
		{pathAuthorize, "https://spa.example", false},
		{"/oauth/login", "https://spa.example", false},
		{pathKeys, "https://anybody.example", true},
		{pathDiscovery, "https://anybody.example", true},
	} {
		for kind, a := range map[string]answer{"preflight": preflight(row.path, row.origin), "request": s.request("POST", row.path, "", header("Origin", row.origin))} {
			got := a.Header.Get("Access-Control-Allow-Origin")
			if row.allowed && got != row.origin || !row.allowed && got != "" {
				t.Errorf("%s %s from %s: allowed %q", kind, row.path, row.origin, got)
			}
			if a.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %s allows credentials", kind, row.path)
			}
		}
	}
	if a := preflight(pathAuthorize, "https://spa.example"); a.StatusCode != 405 {
		t.Errorf("a preflight of authorize is answered %d", a.StatusCode)
	}
}

// Only the browser that began a flow can go on with it.
func TestPitfall06FlowIsBoundToItsBrowser(t *testing.T) {
	s := newSite(t)
	victim, attacker := s.browser(), s.browser()
	page := attacker.get(pathAuthorize + "?" + authorization().Encode())
	flow := page.fields().Get("flow")
	victim.allow("alice", authorization())
	for _, path := range []string{"/oauth/login", "/oauth/consent"} {
		if a := victim.get(path + "?flow=" + flow); a.StatusCode != 400 || a.Header.Get("Location") != "" {
			t.Errorf("another browser goes on at %s: %d", path, a.StatusCode)
		}
	}
	if a := victim.post("/oauth/login", page.fields("login", "alice", "password", rightWords)); a.StatusCode != 400 {
		t.Errorf("another browser logs in to the flow: %d", a.StatusCode)
	}
	if a := s.request("GET", pathAuthorize+"/callback?id="+flow, ""); a.StatusCode != 404 {
		t.Errorf("there is a callback: %d", a.StatusCode)
	}
}

// Userinfo takes living access tokens that are meant for it, and nothing else.
func TestPitfall07UserinfoTakesAccessTokensOnly(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	access := got["access_token"].(string)
	elsewhere := s.tokens("scope", "read:orders")["access_token"].(string)
	machine := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)["access_token"].(string)
	parts := strings.Split(access, ".")
	for name, bearer := range map[string]string{
		"an ID token":         got["id_token"].(string),
		"a refresh token":     got["refresh_token"].(string),
		"a token for an API":  elsewhere,
		"a machine's token":   machine,
		"alg none":            "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + ".",
		"another's signature": parts[0] + "." + parts[1] + "." + strings.Split(machine, ".")[2],
		"an altered payload":  parts[0] + "." + parts[1][:20] + "A" + parts[1][21:] + "." + parts[2],
		"nothing":             "",
		"a malformed percent": "%zz",
		"two tokens":          access + " " + access,
	} {
		a := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+bearer))
		if a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != `Bearer realm="gatehouse", error="invalid_token"` {
			t.Errorf("%s: %d, WWW-Authenticate %q", name, a.StatusCode, a.Header.Get("WWW-Authenticate"))
		}
	}
	if a := s.request("GET", pathUserinfo, ""); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != `Bearer realm="gatehouse"` {
		t.Errorf("without a token: %d %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
	}
	if a := s.request("POST", pathUserinfo, "", header("Authorization", "bearer "+access)); a.StatusCode != 200 {
		t.Errorf("a good one by POST: %d", a.StatusCode)
	}
	s.clock.advance(s.server.config.AccessTokenLifetime)
	if a := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+access)); a.StatusCode != 401 {
		t.Errorf("an expired one: %d", a.StatusCode)
	}
}

// A client assertion for several is refused, and a good one counts once; what
// is registered with a secret takes none (TestClientAssertionAttacks has more).
func TestPitfall08ClientAssertions(t *testing.T) {
	s := newSite(t)
	key := s.signingClient("signer")
	claims := tokentest.ClientAssertion("signer", s.url, s.clock.now())
	several := tokentest.With(claims, map[string]any{"aud": []string{s.url, "https://other.example"}})
	s.oauthError(s.asserted(key.Sign(key.Header(), several)), 401, codeInvalidClient)
	good := s.assertion(key, claims)
	if a := s.asserted(good); a.StatusCode != 200 {
		t.Fatalf("a good one: %s", a.body)
	}
	s.oauthError(s.asserted(good), 401, codeInvalidClient)
	for _, client := range []string{"machine", "spa"} {
		s.oauthError(s.asserted(s.assertion(key, tokentest.ClientAssertion(client, s.url, s.clock.now()))), 401, codeInvalidClient)
	}
	if strings.Contains(s.request("GET", pathDiscovery, "").body, "client_secret_jwt") {
		t.Error("client_secret_jwt is advertised")
	}
}

// Only the port of a native client's loopback redirect varies.
func TestPitfall09LoopbackRedirect(t *testing.T) {
	s := newSite(t)
	request := func(uri string) answer {
		return s.browser().get(pathAuthorize + "?" + authorization("client_id", "cli", "redirect_uri", uri).Encode())
	}
	if a := request("http://127.0.0.1:51004/cb"); a.StatusCode != 200 || !strings.Contains(a.body, `name="password"`) {
		t.Errorf("another port: %d", a.StatusCode)
	}
	for _, uri := range []string{
		"http://localhost/cb", "http://[::1]/cb", "http://127.0.0.2/cb", "http://user@127.0.0.1/cb", "https://127.0.0.1/cb", "http://127.0.0.1/other",
	} {
		if a := request(uri); a.StatusCode != 400 || a.Header.Get("Location") != "" {
			t.Errorf("%s: %d", uri, a.StatusCode)
		}
	}
}

// Nothing that a browser brings back is believed unless its seal is whole.
func TestPitfall10CookiesAreAuthenticated(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization().Encode())
	flow := page.fields().Get("flow")
	at, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range b.http.Jar.Cookies(at) {
		value := []byte(cookie.Value)
		value[len(value)/2] ^= 1
		a := s.request("GET", "/oauth/login?flow="+flow, "", header("Cookie", cookie.Name+"="+string(value)))
		if a.StatusCode != 400 {
			t.Errorf("an altered flow goes on: %d", a.StatusCode)
		}
		if a := s.request("GET", "/oauth/login?flow="+flow, "", header("Cookie", cookie.Name+"="+cookie.Value)); a.StatusCode != 200 {
			t.Errorf("the flow as it was does not go on: %d", a.StatusCode)
		}
	}
}

// A subject may have a colon: no token is made of parts.
func TestPitfall11SubjectsAndFraming(t *testing.T) {
	s := newSite(t)
	err := s.server.store.CreateUser(t.Context(), store.User{ID: "usr_a:b:c", Login: "colon", Roles: []string{"customer"}, Password: aliceHash()})
	if err != nil {
		t.Fatal(err)
	}
	code := s.browser().allow("colon", authorization()).Query().Get("code")
	got := s.tokenAs("web", redemption(code)).json(t)
	info := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+got["access_token"].(string)))
	if info.json(t)["sub"] != "usr_a:b:c" {
		t.Errorf("userinfo %s", info.body)
	}
	if a := s.refreshWith(got["refresh_token"]); a.StatusCode != 200 {
		t.Errorf("refresh %s", a.body)
	}
	page := s.browser().get(pathAuthorize + "?" + authorization().Encode())
	if page.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Error("the login page may be framed")
	}
}
