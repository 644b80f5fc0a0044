package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// active tells what introspection says of a token to a client that may know.
func (s *site) active(token any) bool {
	s.Helper()
	text, _ := token.(string)
	a := s.request("POST", pathIntrospect, url.Values{"token": {text}}.Encode(), basic("web", webSecret))
	if a.StatusCode != http.StatusOK {
		s.Fatalf("introspecting: %d %s", a.StatusCode, a.body)
	}
	return a.json(s)["active"] == true
}

// Gateways take a token a little beyond its end, so it can be revoked, and stays
// revoked, until no gateway would: for those, too, that ask for the whole state.
func TestARevocationOutlivesTheTokensLeeway(t *testing.T) {
	for _, late := range []time.Duration{-time.Second, time.Second, skew - time.Second} {
		s := newSite(t)
		signed := s.tokens()["access_token"].(string)
		claims := s.claims(signed)
		s.clock.advance(s.server.config.AccessTokenLifetime + late)
		if a := s.request("POST", pathRevoke, url.Values{"token": {signed}}.Encode(), basic("web", webSecret)); a.StatusCode != http.StatusOK {
			t.Fatalf("revoking: %d %s", a.StatusCode, a.body)
		}
		s.clock.advance(skew - late - time.Second)
		if _, _, err := s.server.store.Sweep(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		if alive, err := s.server.store.Alive(t.Context(), store.TokenRefs{ID: claims.ID()}); err != nil || alive {
			t.Errorf("revoked %v after its end, a token is alive a second before the leeway is over: %t %v", late, alive, err)
		}
	}
}

// A refresh token that was replaced is not one that could be used (RFC 7662
// §2.2): to use it again revokes its family.
func TestAReplacedRefreshTokenIsNotActive(t *testing.T) {
	s := newSite(t)
	first := s.tokens()["refresh_token"]
	second := s.refreshWith(first).json(s)["refresh_token"]
	if s.active(first) || !s.active(second) {
		t.Errorf("active: the replaced one %t, its successor %t", s.active(first), s.active(second))
	}
}

// One row, one clause of RFC 7009.
func TestRevocation(t *testing.T) {
	for _, row := range []struct {
		clause string
		client string
		// pick is which token is revoked.
		pick func(tokens map[string]any) string
		hint string
		// access and refresh tell what is alive afterwards.
		access, refresh bool
	}{
		{"§2.1 a refresh token takes its access tokens along", "web", func(m map[string]any) string { return m["refresh_token"].(string) }, "", false, false},
		{"§2.1 a wrong hint does not matter", "web", func(m map[string]any) string { return m["refresh_token"].(string) }, "access_token", false, false},
		{"§2.1 an unknown hint does not matter", "web", func(m map[string]any) string { return m["access_token"].(string) }, "x", false, true},
		{"§2.1 an access token alone", "web", func(m map[string]any) string { return m["access_token"].(string) }, "access_token", false, true},
		{"§2.1 another client's refresh token", "web2", func(m map[string]any) string { return m["refresh_token"].(string) }, "", true, true},
		{"§2.1 another client's access token", "web2", func(m map[string]any) string { return m["access_token"].(string) }, "", true, true},
		{"§2.2 an unknown token", "web", func(map[string]any) string { return "nothing" }, "", true, true},
		{"§2.2 an ID token is no token to revoke", "web", func(m map[string]any) string { return m["id_token"].(string) }, "", true, true},
		{"§2.2 a forged access token", "web", func(m map[string]any) string { return m["access_token"].(string) + "A" }, "", true, true},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := newSite(t)
			tokens := s.tokens()
			body := with(url.Values{"token": {row.pick(tokens)}}, "token_type_hint", row.hint)
			for range 2 { // the second time there is nothing left to revoke
				a := s.request("POST", pathRevoke, body.Encode(), basic(row.client, webSecret))
				if a.StatusCode != http.StatusOK || a.body != "" {
					t.Errorf("answered %d %q", a.StatusCode, a.body)
				}
			}
			if got := s.active(tokens["access_token"]); got != row.access {
				t.Errorf("the access token is active: %t", got)
			}
			if got := s.active(tokens["refresh_token"]); got != row.refresh {
				t.Errorf("the refresh token is active: %t", got)
			}
			if got := s.refreshWith(tokens["refresh_token"]).StatusCode == http.StatusOK; got != row.refresh {
				t.Errorf("the refresh token works: %t", got)
			}
		})
	}
}

func TestRevocationRefusals(t *testing.T) {
	s := newSite(t)
	s.oauthError(s.request("POST", pathRevoke, "", basic("web", webSecret)), 400, codeInvalidRequest)
	s.oauthError(s.request("POST", pathRevoke, "token=x"), 401, codeInvalidClient)
	s.oauthError(s.request("POST", pathRevoke, "token=x&client_id=web"), 401, codeInvalidClient)
	s.oauthError(s.request("POST", pathRevoke, "token=x&token=y", basic("web", webSecret)), 400, codeInvalidRequest)
	s.oauthError(s.request("GET", pathRevoke, ""), 405, codeInvalidRequest)
	if a := s.request("POST", pathRevoke, "token=x&client_id=spa"); a.StatusCode != http.StatusOK {
		t.Errorf("a public client revokes by its name: %d", a.StatusCode)
	}
}

// A revoked access token is in the log that gateways follow, at the latest
// when the answer is there.
func TestRevocationReachesTheFeed(t *testing.T) {
	s := newSite(t)
	tokens := s.tokens()
	if a := s.request("POST", pathRevoke, url.Values{"token": {tokens["access_token"].(string)}}.Encode(), basic("web", webSecret)); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	log, err := s.server.store.Log(t.Context(), 0, 10)
	if err != nil || len(log) != 1 || log[0].ID != s.claims(tokens["access_token"]).ID() {
		t.Errorf("log %v, %v", log, err)
	}
}

// Who may know what of a token (RFC 7662 §4): its client, and the API that it
// is for. Everybody else learns what they would learn of a forged one.
func TestIntrospection(t *testing.T) {
	s := newSite(t)
	orders, profile := s.tokens(), s.tokens("scope", "openid read:profile")
	machine := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)
	for _, row := range []struct {
		name   string
		client string
		token  any
		active bool
	}{
		{"the client itself", "web", orders["access_token"], true},
		{"the API", "orders", orders["access_token"], true},
		{"the API, a machine's token", "orders", machine["access_token"], true},
		{"the API, a token for another API", "orders", profile["access_token"], false},
		{"another client", "web2", orders["access_token"], false},
		{"its own refresh token", "web", orders["refresh_token"], true},
		{"the API, a refresh token", "orders", orders["refresh_token"], false},
		{"another client's refresh token", "web2", orders["refresh_token"], false},
		{"an ID token", "web", orders["id_token"], false},
		{"nothing that exists", "web", "x", false},
		{"a forged token", "web", orders["access_token"].(string) + "A", false},
	} {
		a := s.request("POST", pathIntrospect, url.Values{"token": {row.token.(string)}}.Encode(), basic(row.client, webSecret))
		if a.StatusCode != 200 || (a.json(t)["active"] == true) != row.active {
			t.Errorf("%s: %d %s", row.name, a.StatusCode, a.body)
		}
		if !row.active && strings.TrimSpace(a.body) != `{"active":false}` {
			t.Errorf("%s: more is told than that it is not active: %s", row.name, a.body)
		}
	}
	got := s.request("POST", pathIntrospect, url.Values{"token": {orders["access_token"].(string)}}.Encode(), basic("orders", webSecret)).json(t)
	claims := s.claims(orders["access_token"])
	if got["sub"] != "usr_alice" || got["client_id"] != "web" || got["iss"] != s.url || got["jti"] != claims.ID() || got["token_type"] != "Bearer" ||
		got["exp"] != float64(claims.ExpiresAt().Unix()) || got["scope"] != strings.Join(claims.Scopes(), " ") || len(got["aud"].([]any)) != 2 {
		t.Errorf("introspection %v", got)
	}
	s.clock.advance(s.server.config.AccessTokenLifetime)
	if s.active(orders["access_token"]) {
		t.Error("an expired token is active")
	}
}

func TestIntrospectionRefusals(t *testing.T) {
	s := newSite(t)
	for name, a := range map[string]answer{
		"nobody":          s.request("POST", pathIntrospect, "token=x"),
		"a public client": s.request("POST", pathIntrospect, "token=x&client_id=spa"),
		"a native client": s.request("POST", pathIntrospect, "token=x&client_id=cli"),
		"a wrong secret":  s.request("POST", pathIntrospect, "token=x", basic("web", "wrong")),
	} {
		t.Log(name)
		s.oauthError(a, 401, codeInvalidClient)
	}
	s.oauthError(s.request("POST", pathIntrospect, "", basic("web", webSecret)), 400, codeInvalidRequest)
	s.oauthError(s.request("GET", pathIntrospect+"?token=x", "", basic("web", webSecret)), 405, codeInvalidRequest)
}

// Userinfo gives what the scopes open, and asks for openid.
func TestUserinfoScopes(t *testing.T) {
	s := newSite(t)
	for scope, want := range map[string][]string{
		"openid":         {"sub"},
		"openid profile": {"name", "preferred_username", "sub"},
		"openid email":   {"email", "sub"},
	} {
		access := s.tokens("scope", scope)["access_token"].(string)
		a := s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+access))
		var names []string
		for name := range a.json(t) {
			names = append(names, name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%s opens %v", scope, names)
		}
	}
	s.oauthError(s.request("GET", pathUserinfo, "", header("Authorization", "Basic eDp5")), 401, codeInvalidToken)
	s.oauthError(s.request("GET", pathUserinfo, "", header("Authorization", "Bearer a", "Bearer b")), 401, codeInvalidToken)
}
