package controlplane

import (
	"net"
	"path/filepath"
	"slices"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Config is the control plane's own configuration, `controlplane:` in
// gatehouse.yaml. What Envoy does is the Gateway's.
type Config struct {
	// Where Envoys fetch their configuration: unix:PATH, a 0600 socket, or
	// HOST:PORT over mutual TLS. Danger: who reaches it as an Envoy
	// reads every route's signed rule. Default: unix:run/xds.sock in data_dir;
	// 127.0.0.1:9403 where gateway.services has sidecars.
	Listen string `yaml:"listen"`
	// The SPIFFE id that Envoys on the Unix socket are taken for. Default:
	// spiffe://TRUST_DOMAIN/gateway/edge.
	LocalIdentity string `yaml:"local_identity"`
	// This part's certificate for mutual TLS with Envoys. Default: issued by its
	// own workload CA.
	Identity serve.Identity `yaml:"identity"`
	// The loopback address of /metrics, /livez, /readyz, /status and /bundle, the
	// trust bundle in SPIFFE's format. Default: 127.0.0.1:9493.
	Telemetry string `yaml:"telemetry"`
	// The PEM file (PKCS #8, Ed25519, mode 0600) of the key that signs routes'
	// rules; made if missing, with its public half beside it as .pub. Danger: who
	// holds it decides what every route demands. Default: keys/rule.key in
	// data_dir.
	RuleKey conf.Path `yaml:"rule_key"`
	// Where Envoys reach the authorizers, as seen from Envoy: unix:PATH or
	// HOST:PORT, one or more; HOST:PORT is spoken to over mutual TLS with the
	// certificate in the Envoy's own `identity`. The edge asks over Unix sockets
	// alone where there are any, sidecars over HOST:PORT alone. Default:
	// [authz.listen].
	Authz []string `yaml:"authz"`
	// The SPIFFE id that authorizers must have over mutual TLS. Default:
	// spiffe://TRUST_DOMAIN/authz.
	AuthzIdentity string `yaml:"authz_identity"`
	// Where workloads enrol with join tokens, renew their certificates and watch
	// trust: HOST:PORT, TLS 1.3 with the control plane's own certificate. Danger:
	// whoever reaches it may try tokens; keep it inside. Default: none.
	EnrolmentListen string `yaml:"enrolment_listen"`
	// The workload CA.
	CA ca.Config `yaml:"ca"`
	// Where Envoys reach the rate-limit services, as seen from Envoy: unix:PATH or
	// HOST:PORT over mutual TLS, all of one kind; several share one Redis. Default:
	// its `listen`, where this file has a rate-limit service.
	RateLimit []string `yaml:"ratelimit"`
	// The SPIFFE id that rate-limit services must have over mutual TLS. Default:
	// spiffe://TRUST_DOMAIN/ratelimit.
	RateLimitIdentity string `yaml:"ratelimit_identity"`
	// Plans tells whether the rate-limit service has plans.
	Plans bool `yaml:"-"`
	// The trust domain of all SPIFFE ids: the top level's `trust_domain`, or that
	// of local_identity.
	TrustDomain string `yaml:"-"`
}

const (
	defaultTrustDomain = "gatehouse.local"
	defaultTelemetry   = "127.0.0.1:9493"
)

// SetDefaults fills what is empty. Relative socket paths and default files are
// in dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.TrustDomain, trustDomainOf(c.LocalIdentity))
	conf.Default(&c.TrustDomain, defaultTrustDomain)
	conf.Default(&c.Listen, "unix:run/xds.sock")
	c.Listen = serve.Absolute(dataDir, c.Listen)
	conf.Default(&c.LocalIdentity, envoy.EdgeIdentity(c.TrustDomain))
	conf.Default(&c.Telemetry, defaultTelemetry)
	conf.Default(&c.RuleKey, conf.Path(filepath.Join(dataDir, "keys", "rule.key")))
	if len(c.Authz) == 0 {
		c.Authz = []string{"unix:run/authz.sock"}
	}
	for i, address := range c.Authz {
		c.Authz[i] = serve.Absolute(dataDir, address)
	}
	conf.Default(&c.AuthzIdentity, envoy.AuthzIdentity(c.TrustDomain))
	for i, address := range c.RateLimit {
		c.RateLimit[i] = serve.Absolute(dataDir, address)
	}
	conf.Default(&c.RateLimitIdentity, envoy.RateLimitIdentity(c.TrustDomain))
	c.CA.TrustDomain, c.CA.Enrolment = c.TrustDomain, c.EnrolmentListen
	c.CA.SetDefaults(dataDir)
}

// Validate reports everything that is wrong, with keys relative to Config.
func (c *Config) Validate() (vs conf.Violations) {
	vs.AddUnder("", serve.ValidateEndpoint("listen", c.Listen))
	vs.AddUnder("identity", c.Identity.Validate())
	vs.AddUnder("", serve.ValidateLoopback("telemetry", c.Telemetry))
	vs.AddUnder("", spiffeID("local_identity", c.LocalIdentity))
	vs.AddUnder("", spiffeID("authz_identity", c.AuthzIdentity))
	vs.AddUnder("", spiffeID("ratelimit_identity", c.RateLimitIdentity))
	vs.AddUnder("", partAddresses("ratelimit", c.RateLimit))
	if unix := slices.DeleteFunc(slices.Clone(c.RateLimit), isTCP); len(unix) > 0 && len(unix) < len(c.RateLimit) {
		vs.Add("ratelimit", nil, "mixes Unix sockets and TCP addresses", "use one kind: Envoy speaks plainly to all of them or mutual TLS to all")
	}
	if c.RuleKey == "" {
		vs.Add("rule_key", nil, "is missing", "name the file of the rule signing key")
	}
	vs.AddUnder("", partAddresses("authz", c.Authz))
	if _, _, err := net.SplitHostPort(c.EnrolmentListen); err != nil && c.EnrolmentListen != "" {
		vs.Add("enrolment_listen", c.EnrolmentListen, "is no address", "write HOST:PORT")
	}
	vs.AddUnder("ca", c.CA.Validate())
	return vs
}
