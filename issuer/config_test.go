package issuer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func soundConfig() Config {
	c := Config{
		APIs: []API{
			{Audience: "https://orders.example", Scopes: []string{"read:orders", "write:orders"}, Introspectors: []string{"orders"}},
			{Audience: "https://profile.example", Scopes: []string{"read:profile"}},
		},
		Roles: map[string][]string{"customer": {"read:orders", "read:profile"}},
	}
	c.SetDefaults("/data")
	return c
}

func TestDefaults(t *testing.T) {
	c := Config{Database: "/elsewhere.db", FeedListen: "unix:feed.sock"}
	c.SetDefaults("/data")
	if vs := c.Validate(); vs != nil {
		t.Error(vs)
	}
	got := []string{c.URL, c.Listen, c.FeedListen, c.AdminSocket, string(c.Database), string(c.KeyEncryptionKey), c.Telemetry}
	want := []string{"https://localhost:8443", "unix:/data/run/issuer.sock", "unix:/data/feed.sock", "unix:/data/run/admin.sock", "/elsewhere.db", "/data/keys/issuer.kek", "127.0.0.1:9491"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each row breaks one thing; exactly its key is reported.
func TestValidate(t *testing.T) {
	if sound := soundConfig(); sound.Validate() != nil {
		t.Fatal(sound.Validate())
	}
	for _, row := range []struct {
		key   string
		spoil func(*Config)
	}{
		{"url", func(c *Config) { c.URL = "http://issuer.example" }},
		{"url", func(c *Config) { c.URL = "https://issuer.example/" }},
		{"url", func(c *Config) { c.URL = "https://issuer.example/path" }},
		{"url", func(c *Config) { c.URL = "https://issuer.example?q" }},
		{"url", func(c *Config) { c.URL = "https://user@issuer.example" }},
		{"url", func(c *Config) { c.URL = "https://Issuer.example" }},
		{"url", func(c *Config) { c.URL = "issuer.example" }},
		{"url", func(c *Config) { c.URL = "https://:8443" }},
		{"listen", func(c *Config) { c.Listen = "0.0.0.0:9400" }},
		{"listen", func(c *Config) { c.Listen = "unix:" + strings.Repeat("x", 120) }},
		{"listen", func(c *Config) { c.MTLSURL, c.Listen = "https://mtls.example", "127.0.0.1:9400" }},
		{"mtls_url", func(c *Config) { c.MTLSURL, c.Listen = c.URL, "unix:/run/i.sock" }},
		{"mtls_url", func(c *Config) { c.MTLSURL, c.Listen = "http://mtls.example", "unix:/run/i.sock" }},
		{"telemetry", func(c *Config) { c.Telemetry = ":9491" }},
		{"feed_listen", func(c *Config) { c.FeedListen = "127.0.0.1:9500" }},
		{"admin_socket", func(c *Config) { c.AdminSocket = "127.0.0.1:9501" }},
		{"admin_socket", func(c *Config) { c.AdminSocket = "unix:" + strings.Repeat("x", 120) }},
		{"identity.key", func(c *Config) { c.Identity.Certificate, c.Identity.CA = "c", "a" }},
		{"feed_clients[0]", func(c *Config) { c.FeedClients = []string{"authz"} }},
		{"access_token_lifetime", func(c *Config) { c.AccessTokenLifetime = 11 * time.Minute }},
		{"access_token_lifetime", func(c *Config) { c.AccessTokenLifetime = -time.Second }},
		{"id_token_lifetime", func(c *Config) { c.IDTokenLifetime = 2 * time.Hour }},
		{"code_lifetime", func(c *Config) { c.CodeLifetime = 61 * time.Second }},
		{"refresh_lifetime", func(c *Config) { c.RefreshLifetime = 9000 * time.Hour }},
		{"refresh_grace", func(c *Config) { c.RefreshGrace = time.Hour }},
		{"session_lifetime", func(c *Config) { c.SessionLifetime = 1000 * time.Hour }},
		{"keys.publish_lead", func(c *Config) { c.Keys.PublishLead = time.Millisecond }},
		{"keys.rotate_every", func(c *Config) { c.Keys.RotateEvery = c.Keys.PublishLead }},
		{"apis[0].audience", func(c *Config) { c.APIs[0].Audience = "orders" }},
		{"apis[0].audience", func(c *Config) { c.APIs[0].Audience = "https://orders.example#f" }},
		{"apis[0].audience", func(c *Config) { c.APIs[0].Audience = c.URL }},
		{"apis[1].audience", func(c *Config) { c.APIs[1].Audience = c.APIs[0].Audience }},
		{"apis[1].scopes[0]", func(c *Config) { c.APIs[1].Scopes = []string{"read:orders"}; c.Roles = nil }},
		{"apis[0].scopes[1]", func(c *Config) { c.APIs[0].Scopes[1] = "read:orders" }},
		{"apis[0].scopes[1]", func(c *Config) { c.APIs[0].Scopes[1] = "two words" }},
		{"apis[0].scopes[1]", func(c *Config) { c.APIs[0].Scopes[1] = "openid" }},
		{"apis[0].introspectors[0]", func(c *Config) { c.APIs[0].Introspectors[0] = "" }},
		{"apis[1].scopes", func(c *Config) { c.APIs[1].Scopes = nil; c.Roles = nil }},
		{"roles.customer[1]", func(c *Config) { c.Roles["customer"][1] = "read:nothing" }},
		{"roles", func(c *Config) { c.Roles["a,b"] = nil }},
		{"assertion_issuers[0].issuer", vouchedBy(func(a *AssertionIssuer) { a.Issuer = "" })},
		{"assertion_issuers[0].issuer", func(c *Config) { vouchedBy(func(a *AssertionIssuer) { a.Issuer = c.URL })(c) }},
		{"assertion_issuers[0].jwks_url", vouchedBy(func(a *AssertionIssuer) { a.JWKSURL = "" })},
		{"assertion_issuers[0].jwks_url", vouchedBy(func(a *AssertionIssuer) { a.JWKSFile = "x" })},
		{"assertion_issuers[0].jwks_url", vouchedBy(func(a *AssertionIssuer) { a.JWKSURL = "http://ci.example/jwks" })},
		{"assertion_issuers[0].jwks_url", vouchedBy(func(a *AssertionIssuer) { a.JWKSURL = "https://user@ci.example/jwks" })},
		{"assertion_issuers[0].algorithms[0]", vouchedBy(func(a *AssertionIssuer) { a.Algorithms = []string{"HS256"} })},
		{"assertion_issuers[0].max_lifetime", vouchedBy(func(a *AssertionIssuer) { a.MaxLifetime = 2 * time.Hour })},
		{"assertion_issuers[0].subjects", vouchedBy(func(a *AssertionIssuer) { a.Subjects = nil })},
		{"assertion_issuers[0].subjects", vouchedBy(func(a *AssertionIssuer) { a.Subjects = map[string]string{"x": ""} })},
		{"token_exchange[0].client", exchangeOf(func(e *TokenExchange) { e.Client = "" })},
		{"token_exchange[0].subject_audience", exchangeOf(func(e *TokenExchange) { e.SubjectAudience = "https://other.example" })},
		{"token_exchange[0].target", exchangeOf(func(e *TokenExchange) { e.Target, e.Scopes = "", nil })},
		{"token_exchange[0].allow", exchangeOf(func(e *TokenExchange) { e.Allow = nil })},
		{"token_exchange[0].allow[1]", exchangeOf(func(e *TokenExchange) { e.Allow = []string{delegation, "anything"} })},
		{"token_exchange[0].scopes.read:nothing", exchangeOf(func(e *TokenExchange) { e.Scopes = map[string][]string{"read:nothing": nil} })},
		{"token_exchange[0].scopes.read:orders[0]", exchangeOf(func(e *TokenExchange) { e.Scopes = map[string][]string{"read:orders": {"read:orders"}} })},
		{"token_exchange[1]", func(c *Config) {
			exchangeOf(func(*TokenExchange) {})(c)
			c.TokenExchange = append(c.TokenExchange, c.TokenExchange[0])
		}},
		{"keys.algorithms[0]", func(c *Config) { c.Keys.Algorithms = []string{"HS256"} }},
		{"apis[0].algorithm", func(c *Config) { c.APIs[0].Algorithm = "none" }},
		{"apis[0].access_token_lifetime", func(c *Config) { c.APIs[0].AccessTokenLifetime = c.AccessTokenLifetime + 1 }},
		{"apis[0].access_token_lifetime", func(c *Config) { c.APIs[0].AccessTokenLifetime = time.Millisecond }},
		{"apis[1].claims.sub", func(c *Config) { c.APIs[1].Claims = map[string]string{"sub": "email"} }},
		{"apis[1].claims.act", func(c *Config) { c.APIs[1].Claims = map[string]string{"act": "email"} }},
		{"apis[1].claims.mail", func(c *Config) { c.APIs[1].Claims = map[string]string{"mail": "password"} }},
		{"apis[1].claims.plan", func(c *Config) { c.APIs[1].Claims = map[string]string{"plan": "user."} }},
		{"apis[1].claims.plan", func(c *Config) { c.APIs[1].Claims = map[string]string{"plan": "group.plan"} }},
		{"apis[1].claims.scope", func(c *Config) { c.APIs[1].Claims = map[string]string{"scope": "user.scope"} }},
		{"apis[1].claims.a b", func(c *Config) { c.APIs[1].Claims = map[string]string{"a b": "email"} }},
	} {
		c := soundConfig()
		row.spoil(&c)
		vs := c.Validate()
		if len(vs) != 1 || vs[0].Key != row.key || vs[0].Remedy == "" {
			t.Errorf("%s: reported %v", row.key, vs)
		}
	}
}

// vouchedBy adds a sound issuer of assertions, changed.
func vouchedBy(change func(*AssertionIssuer)) func(*Config) {
	return func(c *Config) {
		a := AssertionIssuer{Issuer: "https://ci.example", JWKSURL: "https://ci.example/jwks", Subjects: map[string]string{"repo": "robot"}}
		change(&a)
		c.AssertionIssuers = []AssertionIssuer{a}
	}
}

// exchangeOf adds a sound entry, changed.
func exchangeOf(change func(*TokenExchange)) func(*Config) {
	return func(c *Config) {
		e := TokenExchange{Client: "svc", SubjectAudience: c.APIs[0].Audience, Target: c.APIs[1].Audience, Allow: []string{delegation}, Scopes: map[string][]string{"read:orders": {c.APIs[1].Scopes[0]}}}
		change(&e)
		c.TokenExchange = []TokenExchange{e}
	}
}

// Everything wrong comes out at once.
func TestValidateReportsAll(t *testing.T) {
	c := soundConfig()
	c.URL, c.CodeLifetime, c.APIs[0].Audience, c.Roles["customer"][0] = "x", time.Hour, "x", "x"
	if vs := c.Validate(); len(vs) != 4 {
		t.Errorf("reported %d: %v", len(vs), vs)
	}
}
