package issuer

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logged collects log lines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// site is a whole issuer behind TLS, with clients and people.
type site struct {
	*testing.T
	server *server
	url    string
	clock  *clock
	log    *logged
	http   *http.Client
}

const (
	ordersAPI  = "https://orders.example"
	profileAPI = "https://profile.example"
	webSecret  = "web-secret-web-secret-web-secret"
	webCB      = "https://app.example/cb"
	rightWords = "correct horse battery staple"
)

// newSite starts an issuer; options change its configuration first.
func newSite(t *testing.T, options ...func(*Config)) *site {
	t.Helper()
	front := httptest.NewUnstartedServer(nil)
	s := &site{T: t, url: "https://" + front.Listener.Addr().String(), log: &logged{}, clock: &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	config := Config{
		URL: s.url, Database: conf.Path(filepath.Join(t.TempDir(), "issuer.db")), KeyEncryptionKey: conf.Path(filepath.Join(t.TempDir(), "kek")),
		APIs: []API{
			{Audience: ordersAPI, Scopes: []string{"read:orders", "write:orders"}, Introspectors: []string{"orders"}},
			{Audience: profileAPI, Scopes: []string{"read:profile"}},
		},
		Roles: map[string][]string{"customer": {"read:orders", "write:orders", "read:profile"}, "reader": {"read:orders"}},
	}
	config.SetDefaults(t.TempDir())
	for _, option := range options {
		option(&config)
	}
	i, err := New(config, Deps{Logger: slog.New(slog.NewTextHandler(s.log, nil)), Registerer: prometheus.NewRegistry(), Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if s.server, err = i.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	front.Config.Handler = s.server.handler()
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	t.Cleanup(func() {
		front.Close()
		if err := s.server.close(); err != nil {
			t.Error(err)
		}
	})
	s.http = front.Client()
	s.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.populate()
	return s
}

var aliceHash = sync.OnceValue(func() string {
	hasher, err := password.NewHasher(2)
	if err != nil {
		panic(err)
	}
	hash, err := hasher.Hash(context.Background(), rightWords)
	if err != nil {
		panic(err)
	}
	return hash
})

func (s *site) populate() {
	s.Helper()
	code, refresh, machine := grantAuthorizationCode, grantRefreshToken, grantClientCredentials
	all := []string{"read:orders", "write:orders", "read:profile"}
	secret := store.HashOf(webSecret)
	for _, c := range []store.Client{
		{ID: "machine", Type: store.Confidential, Secret: secret, GrantTypes: []string{machine}, Scopes: all[:2]},
		{ID: "every", Type: store.Confidential, Secret: secret, GrantTypes: []string{machine}, Scopes: all},
		{ID: "hasty", Type: store.Confidential, Secret: secret, GrantTypes: []string{machine}, Scopes: all, AccessTokenLifetime: time.Minute},
		{ID: "lazy", Type: store.Confidential, Secret: secret, GrantTypes: []string{machine}, Scopes: all, AccessTokenLifetime: time.Hour},
		{ID: "orders", Type: store.Confidential, Secret: secret, GrantTypes: []string{machine}, Scopes: all[:1]},
		{ID: "web", Name: "The Shop", Type: store.Confidential, Secret: secret, GrantTypes: []string{code, refresh}, Scopes: all, RedirectURIs: []string{webCB, "https://app.example/q?a=1"}},
		{ID: "web2", Type: store.Confidential, Secret: secret, GrantTypes: []string{code, refresh}, Scopes: all, RedirectURIs: []string{"https://app2.example/cb"}},
		{ID: "spa", Type: store.Public, GrantTypes: []string{code, refresh}, Scopes: all[:1], RedirectURIs: []string{"https://spa.example/"}},
		{ID: "cli", Type: store.Native, GrantTypes: []string{code, refresh}, Scopes: all, RedirectURIs: []string{"http://127.0.0.1/cb"}},
		{ID: "both", Type: store.Confidential, Secret: secret, GrantTypes: []string{code, refresh, machine}, Scopes: all[:1], RedirectURIs: []string{webCB}},
		{ID: "norefresh", Type: store.Confidential, Secret: secret, GrantTypes: []string{code}, Scopes: all, RedirectURIs: []string{webCB}},
	} {
		if err := s.server.store.CreateClient(s.Context(), c); err != nil {
			s.Fatal(err)
		}
	}
	for _, u := range []store.User{
		{ID: "usr_alice", Login: "alice", Name: "Alice Example", Email: "alice@example.com", Roles: []string{"customer"}, Password: aliceHash()},
		{ID: "usr_bob", Login: "bob", Roles: []string{"reader"}, Password: aliceHash()},
		{ID: "usr_carol", Login: "carol", Password: aliceHash()},
	} {
		if err := s.server.store.CreateUser(s.Context(), u); err != nil {
			s.Fatal(err)
		}
	}
}

// answer is a response read to its end.
type answer struct {
	*http.Response
	body string
}

func (s *site) do(client *http.Client, r *http.Request) answer {
	s.Helper()
	response, err := client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{response, string(body)}
}

func (s *site) request(method, path, body string, change ...func(*http.Request)) answer {
	s.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", formType)
	}
	for _, f := range change {
		f(r)
	}
	return s.do(s.http, r)
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(id, secret) }
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

// json decodes the answer's JSON object.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	document := map[string]any{}
	if err := json.Unmarshal([]byte(a.body), &document); err != nil {
		t.Fatalf("status %d: no JSON in %q", a.StatusCode, a.body)
	}
	return document
}

// tokenAs asks the token endpoint as a confidential client.
func (s *site) tokenAs(client string, parameters url.Values) answer {
	s.Helper()
	return s.request("POST", pathToken, parameters.Encode(), basic(client, webSecret))
}

// claims are those of an access token that the gateway's verifier accepts.
func (s *site) claims(access any) *token.Claims {
	s.Helper()
	compact, _ := access.(string)
	claims, err := s.server.tokens.Verify(s.Context(), compact)
	if err != nil {
		s.Fatal(err)
	}
	return claims
}

// oauthError holds an answer to RFC 6749 §5.2.
func (s *site) oauthError(a answer, status int, code string) {
	s.Helper()
	if a.StatusCode != status || a.json(s)["error"] != code {
		s.Errorf("answered %d %s, want %d %s", a.StatusCode, strings.TrimSpace(a.body), status, code)
	}
	if a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "no-store" {
		s.Errorf("content type %q, cache control %q", a.Header.Get("Content-Type"), a.Header.Get("Cache-Control"))
	}
}
