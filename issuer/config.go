package issuer

import (
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// Config is the issuer's configuration, `issuer:` in gatehouse.yaml.
type Config struct {
	// The issuer identifier: the `iss` of every token and the public base of
	// every endpoint, as https://HOST[:PORT] without a path. Plain http only
	// for a loopback host. Danger: changing it makes every token and every
	// client's configuration invalid. Default: https://localhost:8443.
	URL string `yaml:"url"`
	// Where Envoy leads to (plain HTTP): unix:PATH, a 0600 socket, or a loopback
	// address, so that the issuer runs on the edge's machine. Danger: throttling believes the X-Forwarded-For that comes from
	// there, and any process of this machine can reach a loopback address.
	// Default: unix:run/issuer.sock in data_dir.
	Listen string `yaml:"listen"`
	// Where authorizers follow revocations (gRPC): unix:PATH, a 0600 socket, or
	// HOST:PORT, which needs `identity`. Default: unix:run/feed.sock in data_dir.
	FeedListen string `yaml:"feed_listen"`
	// The 0600 Unix socket of `gatehouse client|user|keys`. Danger: whoever may
	// open it administers the issuer. Default: unix:run/admin.sock in data_dir.
	AdminSocket string `yaml:"admin_socket"`
	// The database file, mode 0600. Default: issuer.db in data_dir.
	Database conf.Path `yaml:"database"`
	// The file with the key that encrypts the signing keys at rest: 32 random
	// bytes in base64, mode 0600; made if missing. Where the environment has
	// GATEHOUSE_KEY_ENCRYPTION_KEY, that is the key, in the same form, and the
	// file is not read. `gatehouse keys reseal` puts another in its place. Danger:
	// without it the signing keys are lost and everybody has to log in again;
	// with it and the database anybody can sign. Default: keys/issuer.kek in data_dir.
	KeyEncryptionKey conf.Path `yaml:"key_encryption_key"`
	// This part's certificate for mutual TLS with authorizers. Default: none,
	// Unix sockets only.
	Identity serve.Identity `yaml:"identity"`
	// SPIFFE ids that may follow revocations over mutual TLS. Default:
	// spiffe://TRUST_DOMAIN/authz.
	FeedClients []string `yaml:"feed_clients"`
	// The loopback address of /metrics, /livez and /readyz. Default:
	// 127.0.0.1:9491.
	Telemetry string `yaml:"telemetry"`
	// How long an access token lives, 1s to 10m. Default: 10m.
	AccessTokenLifetime time.Duration `yaml:"access_token_lifetime"`
	// How long an ID token lives, 1s to 1h. Default: 10m.
	IDTokenLifetime time.Duration `yaml:"id_token_lifetime"`
	// How long an authorization code lives, 1s to 60s (RFC 9700 asks for
	// short). Default: 60s.
	CodeLifetime time.Duration `yaml:"code_lifetime"`
	// How long a grant can be refreshed after the login, however often it is
	// used; at most 8760h. Default: 720h.
	RefreshLifetime time.Duration `yaml:"refresh_lifetime"`
	// How long a used refresh token still returns its successor, so that a lost
	// answer does not log the user out; at most 60s. Danger: a stolen token can
	// be used unnoticed for as long. Default: 10s.
	RefreshGrace time.Duration `yaml:"refresh_grace"`
	// How long a person stays logged in at the issuer, at most 720h. Default:
	// 12h.
	SessionLifetime time.Duration `yaml:"session_lifetime"`
	// How clients are told of logouts.
	BackchannelLogout BackchannelLogout `yaml:"backchannel_logout"`
	// A folder whose files stand in for those of the login pages by their names:
	// layout.html, login.html, consent.html, device.html, return.html, end.html,
	// message.html, style.css (any of them; issuer/login/templates has ours). In
	// messages/LANGUAGE.yaml stand the texts that are to be other than ours, and
	// `scope.SCOPE: …`, what people are told that a scope of an API is; a new file
	// is a new language. Scripts and what is on other hosts are not loaded;
	// pictures can be data: URLs.
	// Danger: who writes there shapes the page where people type their
	// passwords. Default: none.
	Templates conf.Path `yaml:"templates"`
	// Whether clients may register themselves (RFC 7591). Default: they may not.
	Registration Registration `yaml:"registration"`
	// How long records of the audit log are kept, 24h to 87600h. Danger: what is
	// older is gone for good. Default: 2160h (90 days).
	AuditRetention time.Duration `yaml:"audit_retention"`
	// When signing keys change.
	Keys KeySchedule `yaml:"keys"`
	// The URL of the gateway's host for mutual TLS (`gateway.mtls_host`), where
	// clients show certificates (RFC 8705): https://HOST[:PORT]. It needs
	// `listen` to be a Unix socket. Default: that of gateway.mtls_host; none,
	// and no certificates are believed.
	MTLSURL string `yaml:"mtls_url"`
	// The PEM authorities that certificates of tls_client_auth clients are
	// verified against. Danger: each of them can be every such client. Default:
	// none; then only self_signed_tls_client_auth works.
	ClientAuthorities conf.Path `yaml:"client_authorities"`
	// Whether a client's jwks_uri may lead to loopback, private and other
	// internal addresses, and be http. Danger: whoever registers clients can
	// then make the issuer fetch from inside. Default: false.
	InternalClientKeys bool `yaml:"internal_client_keys"`
	// Whether every authorization request has to be pushed (RFC 9126); else
	// those of clients alone that are registered so. Default: false.
	RequirePushedRequests bool `yaml:"require_pushed_authorization_requests"`
	// The APIs that tokens are for. Default: none; then tokens open nothing but
	// userinfo.
	APIs []API `yaml:"apis"`
	// The scopes that a role gives to a person, by the role's name. A person's
	// token carries only scopes of the person's roles. Default: none.
	Roles map[string][]string `yaml:"roles"`
	// Who may exchange which tokens for others (RFC 8693). Default: nobody.
	TokenExchange []TokenExchange `yaml:"token_exchange"`
	// Other issuers that may vouch for clients (RFC 7523 §2.1). Default: none.
	AssertionIssuers []AssertionIssuer `yaml:"assertion_issuers"`
}

// KeySchedule is the life of signing keys: next (published) → active → retired.
type KeySchedule struct {
	// How long a key is published before it signs. Danger: shorter than the
	// JWKS caches of those who verify (10m for Envoy), and they deny good
	// tokens during a rotation. Default: 15m.
	PublishLead time.Duration `yaml:"publish_lead"`
	// How long a key signs; longer than publish_lead. Default: 720h.
	RotateEvery time.Duration `yaml:"rotate_every"`
	// The algorithms to keep keys for beside those of `apis`, so that clients
	// may choose them for their ID tokens: ES256, RS256, PS256, EdDSA. Default:
	// ES256, which is always there.
	Algorithms []string `yaml:"algorithms"`
}

// BackchannelLogout is how logout tokens reach the clients that registered a
// backchannel_logout_uri.
type BackchannelLogout struct {
	// Whether they may go to loopback, private and link-local addresses. Danger:
	// whoever may register clients can then make the issuer post to internal
	// services, though nothing but a logout token. Default: false.
	AllowInternal bool `yaml:"allow_internal"`
	// The PEM authorities of the clients' servers. Default: the system's.
	CA conf.Path `yaml:"ca"`
}

// API is a resource server: the audience that it accepts, and its scopes.
type API struct {
	// The audience of its tokens: an absolute URI that names this API alone.
	Audience string `yaml:"audience"`
	// Its scopes; each belongs to one API, so that a scope tells the audience.
	Scopes []string `yaml:"scopes"`
	// Ids of confidential clients that are this API: they may introspect the
	// tokens for its audience. Default: none.
	Introspectors []string `yaml:"introspectors"`
	// What its tokens are signed with: ES256, EdDSA, PS256 or RS256. A token
	// for several APIs needs one algorithm that all of them take. Danger: RS256
	// is barred by FAPI 2.0; a change breaks tokens that are alive where the
	// authorizer does not accept both. Default: ES256.
	Algorithm string `yaml:"algorithm"`
	// How long its access tokens live, at most issuer.access_token_lifetime; of
	// a token for several APIs, the shortest counts. Default:
	// issuer.access_token_lifetime.
	AccessTokenLifetime time.Duration `yaml:"access_token_lifetime"`
	// What its tokens tell beside the standard claims: the source of each
	// claim, among email, name, login, groups, roles and client_name; user.NAME and
	// client.NAME are attributes that users and clients were given (`gatehouse user
	// update ada --attribute plan=pro`), attribute.NAME is the person's and else the
	// client's. A token for several APIs tells what all of them ask for from the
	// same source. Danger: the client reads it too. Default: none.
	Claims map[string]string `yaml:"claims"`
}

// SetDefaults fills what is empty; sockets and files go below dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.URL, "https://localhost:8443")
	conf.Default(&c.Listen, "unix:run/issuer.sock")
	c.Listen = serve.Absolute(dataDir, c.Listen)
	conf.Default(&c.FeedListen, "unix:run/feed.sock")
	conf.Default(&c.AdminSocket, "unix:run/admin.sock")
	conf.Default(&c.Database, conf.Path(filepath.Join(dataDir, "issuer.db")))
	conf.Default(&c.KeyEncryptionKey, conf.Path(filepath.Join(dataDir, "keys", "issuer.kek")))
	conf.Default(&c.Telemetry, "127.0.0.1:9491")
	conf.Default(&c.AccessTokenLifetime, maxAccessTokenLifetime)
	conf.Default(&c.IDTokenLifetime, 10*time.Minute)
	conf.Default(&c.CodeLifetime, maxCodeLifetime)
	conf.Default(&c.RefreshLifetime, 30*24*time.Hour)
	conf.Default(&c.RefreshGrace, 10*time.Second)
	conf.Default(&c.SessionLifetime, 12*time.Hour)
	conf.Default(&c.Registration.Access, registerOff)
	conf.Default(&c.AuditRetention, bolt.DefaultAuditRetention)
	conf.Default(&c.Keys.PublishLead, 15*time.Minute)
	conf.Default(&c.Keys.RotateEvery, 30*24*time.Hour)
	if len(c.FeedClients) == 0 {
		c.FeedClients = []string{"spiffe://gatehouse.local/authz"}
	}
	c.FeedListen = serve.Absolute(dataDir, c.FeedListen)
	c.AdminSocket = serve.Absolute(dataDir, c.AdminSocket)
}
