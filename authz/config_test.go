package authz

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

func validConfig() Config {
	var c Config
	c.SetDefaults("/var/lib/gatehouse")
	return c
}

func TestConfigDefaults(t *testing.T) {
	c := validConfig()
	if err := c.Validate().Err(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	if c.Listen != "unix:/var/lib/gatehouse/run/authz.sock" || c.Issuers[0].Feed != "unix:/var/lib/gatehouse/run/feed.sock" {
		t.Errorf("sockets are %q and %q", c.Listen, c.Issuers[0].Feed)
	}
	if c.RuleKeys[0] != "/var/lib/gatehouse/keys/rule.pub" {
		t.Errorf("rule key is %q", c.RuleKeys[0])
	}
	if c.Issuers[0].FeedIdentity != "spiffe://gatehouse.local/issuer" || c.LocalIdentity != testNode {
		t.Errorf("identities are %q and %q", c.Issuers[0].FeedIdentity, c.LocalIdentity)
	}
}

func TestConfigFromYAML(t *testing.T) {
	var c Config
	_, found := conf.Decode([]byte(`
listen: unix:run/a.sock
local_identity: spiffe://example.org/gateway/edge
rule_keys: [keys/a.pub, /etc/b.pub]
skew: 10s
allowed_events: debug
issuers:
  - issuer: https://login.example
    jwks_max_age: 1h
    algorithms: [RS256]
`), "/etc/gatehouse", &c)
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	c.SetDefaults("/data")
	if err := c.Validate().Err(); err != nil {
		t.Fatal(err)
	}
	i := c.Issuers[0]
	if c.Listen != "unix:/data/run/a.sock" || c.RuleKeys[0] != "/etc/gatehouse/keys/a.pub" || c.Skew != 10*time.Second {
		t.Errorf("read %+v", c)
	}
	if i.JWKSURL != "https://login.example/oauth/keys" || i.AllowInternal || i.FeedIdentity != "spiffe://example.org/issuer" || i.JWKSMaxAge != time.Hour {
		t.Errorf("read issuer %+v", i)
	}
}

func TestConfigViolations(t *testing.T) {
	for _, c := range []struct {
		key  string
		edit func(*Config)
	}{
		{"listen", func(c *Config) { c.Listen = "0.0.0.0:9000" }},
		{"listen", func(c *Config) { c.Listen = "unix:" }},
		{"local_identity", func(c *Config) { c.LocalIdentity = "edge" }},
		{"local_identity", func(c *Config) { c.LocalIdentity = "spiffe://gatehouse.local/service/orders" }},
		{"local_identity", func(c *Config) { c.LocalIdentity = "spiffe:///gateway/edge" }},
		{"identity.key", func(c *Config) { c.Identity = serve.Identity{Certificate: "a", CA: "b"} }},
		{"telemetry", func(c *Config) { c.Telemetry = "0.0.0.0:9492" }},
		{"rule_keys", func(c *Config) { c.RuleKeys = nil }},
		{"rule_keys", func(c *Config) { c.RuleKeys = []conf.Path{"a", "b", "c"} }},
		{"skew", func(c *Config) { c.Skew = 2 * time.Minute }},
		{"skew", func(c *Config) { c.Skew = -time.Second }},
		{"token_cache_bytes", func(c *Config) { c.TokenCacheBytes = 1000 }},
		{"assertions.rotate", func(c *Config) { c.Assertions.Rotate = 29 * time.Second }},
		{"assertions.rotate", func(c *Config) { c.Assertions.Rotate = 721 * time.Hour }},
		{"allowed_events", func(c *Config) { c.AllowedEvents = "never" }},
		{"issuers", func(c *Config) { c.Issuers = nil }},
		{"issuers[1].issuer", func(c *Config) { c.Issuers = append(c.Issuers, c.Issuers[0]) }},
		{"issuers[0].issuer", func(c *Config) { c.Issuers[0].Issuer = "http://issuer.example" }},
		{"issuers[0].issuer", func(c *Config) { c.Issuers[0].Issuer = "https://issuer.example?a=b" }},
		{"issuers[0].issuer", func(c *Config) { c.Issuers[0].Issuer = "https://issuer.example#" }},
		{"issuers[0].jwks_url", func(c *Config) { c.Issuers[0].JWKSURL = "file:///etc/passwd" }},
		{"issuers[0].jwks_url", func(c *Config) { c.Issuers[0].JWKSURL = "http://issuer.example/keys" }},
		{"issuers[0].jwks_url", func(c *Config) { c.Issuers[0].JWKSURL = "http://127.0.0.1:9400/keys" }},
		{"issuers[0].jwks_url", func(c *Config) { c.Issuers[0].JWKSURL = "unix:" }},
		{"issuers[0].jwks_max_age", func(c *Config) { c.Issuers[0].JWKSMaxAge, c.Issuers[0].JWKSInterval = 30*time.Second, time.Second }},
		{"issuers[0].jwks_interval", func(c *Config) { c.Issuers[0].JWKSInterval = time.Millisecond }},
		{"issuers[0].jwks_interval", func(c *Config) { c.Issuers[0].JWKSInterval = 48 * time.Hour }},
		{"issuers[0].max_lifetime", func(c *Config) { c.Issuers[0].MaxLifetime = time.Second }},
		{"issuers[0].feed", func(c *Config) { c.Issuers[0].Feed = "127.0.0.1:1" }},
		{"issuers[0].feed_identity", func(c *Config) { c.Issuers[0].FeedIdentity = "issuer" }},
		{"issuers[0].algorithms[0]", func(c *Config) { c.Issuers[0].Algorithms = []string{"none"} }},
		{"issuers[0].algorithms[1]", func(c *Config) { c.Issuers[0].Algorithms = []string{"ES256", "HS256"} }},
		{"issuers[0].algorithms", func(c *Config) { c.Issuers[0].Algorithms = nil }},
	} {
		config := validConfig()
		c.edit(&config)
		found := config.Validate()
		if len(found) != 1 || found[0].Key != c.key || found[0].Remedy == "" {
			t.Errorf("%s: found %v", c.key, found)
		}
		if _, err := New(config, Deps{}); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: New says %v", c.key, err)
		}
	}
}
