package issuer

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Where the database fails, machines get server_error and people a page; no
// answer claims to know, none says what is wrong, and the log does.
func TestBrokenDatabase(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	consent := b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", "alice", "password", rightWords)
	stranger := s.browser()
	login := stranger.get(pathAuthorize + "?" + authorization().Encode())
	access := s.tokens()["access_token"].(string)
	if err := s.server.store.Close(); err != nil {
		t.Fatal(err)
	}
	token := url.Values{"token": {access}}.Encode()
	for name, a := range map[string]answer{
		"token":      s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}),
		"introspect": s.request("POST", pathIntrospect, token, basic("web", webSecret)),
		"revoke":     s.request("POST", pathRevoke, token, basic("web", webSecret)),
		"userinfo":   s.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+access)),
	} {
		t.Log(name)
		s.oauthError(a, 500, codeServerError)
		if strings.Contains(a.body, "database") {
			t.Errorf("%s tells too much: %s", name, a.body)
		}
	}
	for name, a := range map[string]answer{
		"authorize":   stranger.get(pathAuthorize + "?" + authorization().Encode()),
		"login form":  stranger.get("/oauth/login?flow=" + login.fields().Get("flow")),
		"login":       stranger.post("/oauth/login", login.fields("login", "alice", "password", rightWords)),
		"consent":     b.post("/oauth/consent", consent.fields("decision", "allow")),
		"end session": b.get("/oauth/end-session"),
	} {
		if a.StatusCode < 500 || a.Header.Get("Location") != "" || strings.Contains(a.body, "database") || !strings.Contains(a.body, "<h1>") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if a := s.request("GET", pathKeys, ""); a.StatusCode != http.StatusOK {
		t.Errorf("keys need no database: %d", a.StatusCode)
	}
	if !strings.Contains(s.log.String(), "database not open") {
		t.Error("the log does not say what is wrong")
	}
}

// A panic costs one request and shows nothing of itself.
func TestPanic(t *testing.T) {
	s := newSite(t)
	w := httptest.NewRecorder()
	s.server.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret detail") })).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	s.oauthError(answer{w.Result(), w.Body.String()}, 500, codeServerError)
	if strings.Contains(w.Body.String(), "secret detail") || !strings.Contains(s.log.String(), "secret detail") {
		t.Error("the panic is told to the caller, or not to the operator")
	}
}

// A client or person that ends while somebody looks at a page gets no code.
func TestEndedDuringTheFlow(t *testing.T) {
	for name, end := range map[string]func(*site, *browser) error{
		"the client is deleted": func(s *site, _ *browser) error { return s.server.store.DeleteClient(s.Context(), "web") },
		"the person is deleted": func(s *site, _ *browser) error { return s.server.store.DeleteUser(s.Context(), "usr_alice") },
		"the person is revoked": func(s *site, _ *browser) error { return s.server.store.RevokeUser(s.Context(), "usr_alice") },
		"the password is set": func(s *site, _ *browser) error {
			return s.server.store.SetPassword(s.Context(), "usr_alice", aliceHash())
		},
		"the session is revoked": func(s *site, b *browser) error {
			session, _, err := s.server.store.SessionByCookie(s.Context(), store.HashOf(b.session()))
			return errors.Join(err, s.server.store.RevokeSession(s.Context(), session.ID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := s.browser()
			consent := b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", "alice", "password", rightWords)
			if err := end(s, b); err != nil {
				t.Fatal(err)
			}
			a := b.follow(b.post("/oauth/consent", consent.fields("decision", "allow")))
			if strings.Contains(a.Header.Get("Location"), "code=") || a.StatusCode == http.StatusOK && !strings.Contains(a.body, `name="password"`) {
				t.Errorf("%d %s", a.StatusCode, a.Header.Get("Location"))
			}
		})
	}
}

// A grant that cannot be refreshed ends with its access token.
func TestGrantWithoutOfflineAccessIsShort(t *testing.T) {
	s := newSite(t)
	for scope, life := range map[string]time.Duration{
		"openid":                s.server.config.AccessTokenLifetime + skew,
		"openid offline_access": s.server.config.RefreshLifetime,
	} {
		claims := s.claims(s.tokens("scope", scope)["access_token"])
		grant, err := s.server.store.Grant(t.Context(), claims.GrantID())
		if err != nil || !grant.ExpiresAt.Equal(s.clock.now().Add(life)) {
			t.Errorf("%s: the grant ends at %s, %v", scope, grant.ExpiresAt, err)
		}
	}
}
