package app

import (
	"net"
	"os"
	"path/filepath"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/ratelimit"
)

// complete fills in the defaults: first what follows from another part or from
// the trust domain, then each part's own.
func (c *Config) complete() {
	conf.Default(&c.Version, 1)
	conf.Default(&c.DataDir, conf.Path(filepath.Join(c.file.dir, "data")))
	conf.Default(&c.TrustDomain, "gatehouse.local")
	if c.Policies == "" {
		folder := filepath.Join(c.file.dir, "policies")
		if info, err := os.Stat(folder); err == nil && info.IsDir() {
			c.Policies = conf.Path(folder)
		}
	}
	c.Authz.Policies = c.Policies
	c.ControlPlane.TrustDomain = c.TrustDomain
	c.completeIdentities()
	c.completeSidecars()
	dir := string(c.DataDir)
	c.completeIssuer(dir)
	c.Gateway.SetDefaults(dir)
	c.completeAuthz(dir)
	if len(c.ControlPlane.Authz) == 0 {
		c.ControlPlane.Authz = []string{c.Authz.Listen}
	}
	c.completeRateLimit(dir)
	c.ControlPlane.SetDefaults(dir)
	c.completeTrust()
	conf.Default(&c.Envoy.XDS, c.ControlPlane.Listen)
	c.Envoy.SetDefaults(dir)
	c.completeStates()
}

// completeStates gives each part that enrols a folder for its certificate.
func (c *Config) completeStates() {
	identities := map[Part]*serve.Identity{
		Authz: &c.Authz.Identity, ControlPlane: &c.ControlPlane.Identity, Envoy: &c.Envoy.Identity,
	}
	if c.Issuer != nil {
		identities[Issuer] = &c.Issuer.Identity
	}
	if c.RateLimit != nil {
		identities[RateLimit] = &c.RateLimit.Identity
	}
	for part, identity := range identities {
		if identity.Enrol != "" {
			conf.Default(&identity.State, c.data("identity", string(part)))
		}
	}
}

func (c *Config) completeIdentities() {
	edge := envoy.EdgeIdentity(c.TrustDomain)
	conf.Default(&c.Authz.LocalIdentity, edge)
	conf.Default(&c.ControlPlane.LocalIdentity, edge)
	conf.Default(&c.ControlPlane.AuthzIdentity, envoy.AuthzIdentity(c.TrustDomain))
	conf.Default(&c.Envoy.XDSIdentity, envoy.ControlPlaneIdentity(c.TrustDomain))
	for i := range c.Authz.Issuers {
		conf.Default(&c.Authz.Issuers[i].FeedIdentity, envoy.IssuerIdentity(c.TrustDomain))
	}
	if c.Issuer != nil && len(c.Issuer.FeedClients) == 0 {
		c.Issuer.FeedClients = []string{envoy.AuthzIdentity(c.TrustDomain)}
	}
}

// completeSidecars lets sidecars reach the parts: over mutual TLS, for a Unix
// socket would take each of them for the edge. The certificates are those that
// the CA in data_dir issues.
func (c *Config) completeSidecars() {
	if !c.Gateway.HasSidecars() {
		return
	}
	conf.Default(&c.Authz.Listen, "127.0.0.1:9401")
	conf.Default(&c.ControlPlane.Listen, "127.0.0.1:9403")
	for part, identity := range map[Part]*serve.Identity{Authz: &c.Authz.Identity, Envoy: &c.Envoy.Identity} {
		if !identity.Set() {
			*identity = serve.Identity{
				Certificate: c.data("identity", string(part)+".crt"), Key: c.data("identity", string(part)+".key"), CA: c.CA(),
			}
		}
	}
}

// completeTrust lets an authorizer of its own process find the workload CA where
// that is on the same machine, as the address of the control plane tells.
func (c *Config) completeTrust() {
	host, _, err := net.SplitHostPort(c.ControlPlane.Listen)
	ip := net.ParseIP(host)
	if c.Gateway.HasSidecars() && err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		conf.Default(&c.Authz.Trust, c.ControlPlane.CA.AdminSocket)
	}
}

// completeIssuer makes the issuer and the gateway find each other: people reach
// the issuer through the gateway, under the gateway's URL.
func (c *Config) completeIssuer(dir string) {
	if c.Issuer == nil {
		return
	}
	conf.Default(&c.Issuer.URL, c.Gateway.PublicURL)
	c.Issuer.SetDefaults(dir)
	conf.Default(&c.Gateway.PublicURL, c.Issuer.URL)
	conf.Default(&c.Issuer.MTLSURL, c.Gateway.MTLSURL())
	conf.Default(&c.Gateway.Issuer.URL, fetchedAt(c.Issuer.Listen, ""))
}

// fetchedAt is how the others reach a path of the issuer: over its socket, where
// that is all they need to know, or by a URL.
func fetchedAt(listen, path string) string {
	if _, unix := serve.UnixPath(listen); unix {
		return listen
	}
	return "http://" + listen + path
}

// completeAuthz lets the authorizer trust the site's issuer, directly and not
// through the gateway, which needs the authorizer.
func (c *Config) completeAuthz(dir string) {
	if c.Issuer != nil && len(c.Authz.Issuers) == 0 {
		c.Authz.Issuers = []authz.Issuer{{
			Issuer:        c.Issuer.URL,
			JWKSURL:       fetchedAt(c.Issuer.Listen, "/oauth/keys"),
			Algorithms:    c.Issuer.AccessTokenAlgorithms(),
			AllowInternal: true,
			Feed:          c.Issuer.FeedListen,
			FeedIdentity:  envoy.IssuerIdentity(c.TrustDomain),
		}}
	}
	c.Authz.SetDefaults(dir)
}

// completeRateLimit adds the rate-limit service where something counts there and
// no other one is named, and lets Envoys find it.
func (c *Config) completeRateLimit(dir string) {
	if c.RateLimit == nil && c.Gateway.NeedsService() && len(c.ControlPlane.RateLimit) == 0 {
		c.RateLimit = &ratelimit.Config{}
	}
	if c.RateLimit == nil {
		return
	}
	conf.Default(&c.RateLimit.LocalIdentity, envoy.EdgeIdentity(c.TrustDomain))
	c.RateLimit.SetDefaults(dir)
	if len(c.ControlPlane.RateLimit) == 0 {
		c.ControlPlane.RateLimit = []string{c.RateLimit.Listen}
	}
	c.ControlPlane.Plans = len(c.RateLimit.Plans) > 0
}
