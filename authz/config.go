package authz

import (
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Config is the authorizer's configuration, `authz:` in gatehouse.yaml.
type Config struct {
	// Where Envoys reach Check: unix:PATH, a 0600 socket, or HOST:PORT, which
	// needs `identity`. Danger: Check believes what its caller says of a
	// request; whoever reaches it can learn which tokens are valid.
	// Default: unix:run/authz.sock in data_dir; 127.0.0.1:9401 where
	// gateway.services has sidecars.
	Listen string `yaml:"listen"`
	// The SPIFFE id that callers on the Unix socket are taken for; a rule must
	// name it among its node identities. Default: spiffe://TRUST_DOMAIN/gateway/edge.
	LocalIdentity string `yaml:"local_identity"`
	// This part's certificate for mutual TLS, with Envoys as their server and
	// with issuers as their client. Default: none, Unix sockets only.
	Identity serve.Identity `yaml:"identity"`
	// The loopback address of /metrics, /livez and /readyz. Default:
	// 127.0.0.1:9492.
	Telemetry string `yaml:"telemetry"`
	// One or two PEM files with the Ed25519 public keys that rules may be
	// signed with; two while the control plane's key is being replaced. Danger:
	// who holds a key's private half decides what every route demands.
	// Default: keys/rule.pub in data_dir.
	RuleKeys []conf.Path `yaml:"rule_keys"`
	// How far the clocks of an issuer and of this machine may disagree when a
	// token's times are judged, 1s to 60s; an expired token is accepted this
	// much longer. Default: 30s.
	Skew time.Duration `yaml:"skew"`
	// How much memory verified tokens may take, in bytes, from 1 MiB; one takes
	// about 1.5 KiB. Too little costs a signature check a request, nothing else.
	// Default: 67108864 (64 MiB).
	TokenCacheBytes int64 `yaml:"token_cache_bytes"`
	// How many DPoP proofs are remembered for as long as they could be replayed,
	// from 1024; each takes about 64 bytes. Beyond it, requests with proofs are
	// answered 503. Each authorizer has its own: a proof may be replayed once at
	// each of them. Default: 1048576.
	ProofEntries int `yaml:"proof_entries"`
	// The level at which the event of an allowed request is logged: info or
	// debug. Each event is one line; at debug the log handler usually drops it,
	// which saves its cost on busy gateways. Denied requests are logged at info,
	// those answered 503 at warn, always. Default: info.
	AllowedEvents string `yaml:"allowed_events"`
	// Where authorizers share their assertion keys and learn which workloads
	// were revoked: unix:PATH, or HOST:PORT with `identity`; as a rule the control
	// plane's `listen`. Danger: without it a sidecar that asks one of several
	// authorizers refuses what another signed, and a revoked workload is not
	// noticed here. Default: the workload CA's admin socket where the control plane
	// is in the same process, or has a loopback address and gateway.services has
	// sidecars; else none.
	Trust string `yaml:"trust"`
	// The SPIFFE id that `trust` must have over mutual TLS; unused on a Unix
	// socket. Default: spiffe://TRUST_DOMAIN/controlplane.
	TrustIdentity string `yaml:"trust_identity"`
	// How long the last word of `trust` on who was revoked counts once it is not
	// heard any more, 1m to 24h; then every request is answered 503 and every
	// watched stream ends. Danger: until then a workload that was revoked
	// meanwhile is let in here. Default: 30m, half the life of a workload's
	// certificate.
	TrustMaxAge time.Duration `yaml:"trust_max_age"`
	// The signed assertions that services get.
	Assertions Assertions `yaml:"assertions"`
	// The issuers whose tokens can be verified; a route says which of them it
	// accepts. Default: the issuer of this file, with its keys and feed.
	Issuers []Issuer `yaml:"issuers"`
	// The folder of Rego policies; empty: the scope policy alone. Filled from
	// the top level's `policies`.
	Policies conf.Path `yaml:"-"`
}

// Assertions are the signed statements of who calls, for one service each.
type Assertions struct {
	// How long a key signs before the next one does, 30s to 720h. Keys are in
	// memory alone; a restart makes new ones, and so does SIGUSR1, which also
	// makes the old ones worthless at once. Default: 24h.
	Rotate time.Duration `yaml:"rotate"`
	// Whether each request gets an assertion of its own, whose txn is its
	// request id. Else the requests of one token to one service share one for up
	// to 30 s, with the id of the first; a signature costs about as much as all
	// else of a decision. Default: false.
	EachRequest bool `yaml:"each_request"`
	// How much memory assertions may take that were made or verified in the last
	// two minutes, in bytes, from 1 MiB; one takes about 2 KiB. Too little costs a
	// signature a request, nothing else. Default: 33554432 (32 MiB).
	CacheBytes int64 `yaml:"cache_bytes"`
}

// Issuer is one authorization server.
type Issuer struct {
	// The issuer identifier, exactly as in the `iss` claim: an https URL
	// without query and fragment (RFC 8414 §2). Default: none, required.
	Issuer string `yaml:"issuer"`
	// Where its JWK Set is fetched: https, http on loopback with
	// `allow_internal`, or unix:PATH, the socket of an issuer of ours. Danger: who answers there can sign any token of this
	// issuer. Default: /oauth/keys below the issuer.
	JWKSURL string `yaml:"jwks_url"`
	// How long the last good key set counts when it cannot be fetched anew,
	// from 1m; after that every request is answered 503. Default: 24h.
	JWKSMaxAge time.Duration `yaml:"jwks_max_age"`
	// How often the JWK Set is fetched, from 1s; a token with an unknown key also
	// asks for it, though is refused itself. Danger: longer than the issuer's
	// publish lead, a new key's first tokens are refused. Default: 5m.
	JWKSInterval time.Duration `yaml:"jwks_interval"`
	// Whether jwks_url may lead to a loopback, private or link-local address.
	// Danger: with a URL that others choose, it lets them reach internal
	// services. Default: false.
	AllowInternal bool `yaml:"allow_internal"`
	// Its revocation feed: unix:PATH, or HOST:PORT with `identity`. Default:
	// unix:run/feed.sock in data_dir.
	Feed string `yaml:"feed"`
	// The SPIFFE id that the feed's server must have over mutual TLS; unused on
	// a Unix socket. Default: spiffe://TRUST_DOMAIN/issuer.
	FeedIdentity string `yaml:"feed_identity"`
	// The longest life, from iat to exp, that a token of its may have, 1m to
	// 24h; longer ones are refused. Default: 10m.
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// The algorithms that its tokens may be signed with: ES256, ES384,
	// RS256, PS256 or EdDSA. Danger: each is one more that a key may be abused
	// with; list what the issuer uses. Default: [ES256].
	Algorithms []string `yaml:"algorithms"`
}

const (
	defaultTrustDomain  = "gatehouse.local"
	defaultIssuer       = "https://localhost:8443"
	defaultJWKSURL      = "unix:run/issuer.sock"
	defaultTelemetry    = "127.0.0.1:9492"
	defaultCacheBytes   = 64 << 20
	defaultProofEntries = 1 << 20
	defaultSkew         = 30 * time.Second
	defaultRotate       = 24 * time.Hour
	defaultTrustMaxAge  = 30 * time.Minute
	defaultAssertions   = 32 << 20
	defaultJWKSMaxAge   = 24 * time.Hour
	defaultJWKSInterval = 5 * time.Minute
	defaultMaxLifetime  = 10 * time.Minute
)

// SetDefaults fills what is empty. Relative socket paths and default files are
// in dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.Listen, "unix:run/authz.sock")
	c.Listen = serve.Absolute(dataDir, c.Listen)
	conf.Default(&c.LocalIdentity, envoy.EdgeIdentity(defaultTrustDomain))
	conf.Default(&c.Telemetry, defaultTelemetry)
	conf.Default(&c.Skew, defaultSkew)
	conf.Default(&c.TokenCacheBytes, defaultCacheBytes)
	conf.Default(&c.ProofEntries, defaultProofEntries)
	conf.Default(&c.AllowedEvents, "info")
	c.Trust = serve.Absolute(dataDir, c.Trust)
	conf.Default(&c.TrustIdentity, envoy.ControlPlaneIdentity(trustDomain(c.LocalIdentity)))
	conf.Default(&c.TrustMaxAge, defaultTrustMaxAge)
	conf.Default(&c.Assertions.Rotate, defaultRotate)
	conf.Default(&c.Assertions.CacheBytes, defaultAssertions)
	if len(c.RuleKeys) == 0 {
		c.RuleKeys = []conf.Path{conf.Path(filepath.Join(dataDir, "keys", "rule.pub"))}
	}
	if len(c.Issuers) == 0 {
		c.Issuers = []Issuer{{Issuer: defaultIssuer, JWKSURL: defaultJWKSURL}}
	}
	for i := range c.Issuers {
		c.Issuers[i].setDefaults(dataDir, trustDomain(c.LocalIdentity))
	}
}

func (i *Issuer) setDefaults(dataDir, trustDomain string) {
	conf.Default(&i.JWKSURL, i.Issuer+"/oauth/keys")
	conf.Default(&i.JWKSMaxAge, defaultJWKSMaxAge)
	conf.Default(&i.JWKSInterval, defaultJWKSInterval)
	conf.Default(&i.MaxLifetime, defaultMaxLifetime)
	conf.Default(&i.Feed, "unix:run/feed.sock")
	i.Feed = serve.Absolute(dataDir, i.Feed)
	i.JWKSURL = serve.Absolute(dataDir, i.JWKSURL)
	conf.Default(&i.FeedIdentity, envoy.IssuerIdentity(trustDomain))
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"ES256"}
	}
}
