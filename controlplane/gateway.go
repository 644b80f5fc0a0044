package controlplane

import (
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Gateway is what Envoy does, `gateway:` in gatehouse.yaml: the one part that
// is reloaded when it is edited.
type Gateway struct {
	// The address of the HTTPS edge, IP:PORT. Default: 127.0.0.1:8443.
	Listen string `yaml:"listen"`
	// The address of a plain HTTP listener that answers everything with a
	// redirect (308) to public_url. Default: none.
	RedirectListen string `yaml:"redirect_listen"`
	// The URL that clients know this gateway by, https://HOST[:PORT]. Default:
	// https://localhost:8443.
	PublicURL string `yaml:"public_url"`
	// The name of a second host of the gateway, at the same port, where clients
	// show a certificate (mutual TLS, RFC 8705); the edge's certificate must name
	// it as well. Clients prove themselves to the issuer there, and use tokens
	// that are bound to their certificate. Default: none.
	MTLSHost string `yaml:"mtls_host"`
	// The certificate of the edge, which the control plane reads and hands to it.
	// Default: tls/edge.crt and tls/edge.key in data_dir.
	TLS TLS `yaml:"tls"`
	// How long browsers must remember to come by HTTPS only (HSTS), as a
	// duration; `0s`: no header. Danger: browsers that have seen it refuse plain
	// HTTP to this host until it is over. Default: 8760h.
	HSTSMaxAge *time.Duration `yaml:"hsts_max_age"`
	// The issuer behind this gateway.
	Issuer IssuerBackend `yaml:"issuer"`
	// The issuers (the `iss` claim) whose tokens routes accept. Default:
	// [public_url].
	Issuers []string `yaml:"issuers"`
	// The audience that tokens must have on routes without one of their own.
	// Default: none.
	Audience string `yaml:"audience"`
	// How old the knowledge of revocations may be, on routes without a limit of
	// their own, up to 720h; staler than this answers 503. Danger: until then a
	// revoked token is good where the feed is broken. Default: 10m.
	RevocationMaxAge time.Duration `yaml:"revocation_max_age"`
	// Lists of networks, by name: lower-case letters, digits and hyphens.
	// Default: none.
	IPLists map[string]IPList `yaml:"ip_lists"`
	// Which addresses may use the gateway at all, its redirect listener and the
	// issuer's paths included. Default: all.
	Networks Networks `yaml:"networks"`
	// How many requests anybody may send, on all routes together; by address, the
	// issuer's paths included. Danger: an edit of those not shared makes Envoy
	// open its listener anew, and buckets are full again. Default: none.
	Limits []Limit `yaml:"limits"`
	// The networks of your own proxies in front of the gateway, as CIDRs: from
	// them, X-Forwarded-For says where a request comes from, read from the right
	// past every trusted proxy. Danger: whoever sends requests from there can name
	// any address as its own. Default: none, the socket's peer is the client.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// The networks of balancers that begin each connection with a PROXY header
	// (version 1 or 2), as CIDRs. Every other connection is then closed. Danger:
	// whoever connects from there can name any address as its own. Default: none,
	// a PROXY header is no HTTP and is refused.
	ProxyProtocol []string `yaml:"proxy_protocol"`
	// Which web pages of other origins may use the routes that say nothing of it
	// themselves. Default: none.
	CORS *CORS `yaml:"cors"`
	// Where requests end up, by name: lower-case letters, digits and hyphens. The
	// name is the end of the service's SPIFFE id, spiffe://TRUST_DOMAIN/service/NAME.
	// Default: none.
	Services map[string]Service `yaml:"services"`
	// What is let through; the first route whose path and method match wins, in
	// this order, and without one the answer is 404. Default: none.
	Routes []Route `yaml:"routes"`
}

// TLS is a certificate and its key.
type TLS struct {
	// The PEM certificate chain, the leaf first. Default: tls/edge.crt in
	// data_dir.
	Certificate conf.Path `yaml:"certificate"`
	// The PEM private key; keep it 0600. Default: tls/edge.key in data_dir.
	Key conf.Path `yaml:"key"`
}

// IssuerBackend says where the gateway finds the issuer, whose own paths
// (/oauth/… and two below /.well-known) it then serves.
type IssuerBackend struct {
	// unix:PATH, http://127.0.0.1:PORT or https://HOST[:PORT]. Default: the
	// issuer of this file, at its `issuer.listen`; where there is none, no such
	// paths.
	URL string `yaml:"url"`
	// Paths of the issuer that only some networks may reach, such as those for
	// administrators; the first that matches counts. Default: none.
	Restrict []IssuerPaths `yaml:"restrict"`
}

// Route lets requests through to a service.
type Route struct {
	// The route's name in decisions and logs: letters, digits, `-`, `_` and `.`.
	// Default: none, required.
	ID string `yaml:"id"`
	// Exact, as in /orders; {name} stands for one segment; a final /** for the
	// path itself and everything below. The query does not count, a trailing
	// slash and capitals do; percent-encoding does not, and a path with a `;` is
	// refused on every route. Danger: a service that takes /admin/ or /ADMIN for
	// /admin serves them under whichever later route matches them; guard
	// /admin/**, and let no weaker route follow that matches the rest. Default:
	// none, required.
	Path string `yaml:"path"`
	// The methods, in capitals. Default: all.
	Methods []string `yaml:"methods"`
	// The service, by its name in gateway.services. Default: none, required.
	Service string `yaml:"service"`
	// The audience that must be among the token's. Default: gateway.audience.
	Audience string `yaml:"audience"`
	// The issuers whose tokens are accepted. Default: gateway.issuers.
	Issuers []string `yaml:"issuers"`
	// The scopes, all of which the token must carry. Danger: without any, every
	// valid token for the audience is good. Default: none.
	Scopes []string `yaml:"scopes"`
	// A Rego package that must allow the request as well as the scopes. Default:
	// none.
	Policy string `yaml:"policy"`
	// What tokens must be bound to: `any` (to nothing), `required` (a DPoP key or
	// a TLS certificate), `dpop` or `mtls`. What a token is bound to has to be
	// proven in any case. Danger: with `any`, an unbound token that was stolen is
	// good. Default: any.
	TokenBinding TokenBinding `yaml:"token_binding"`
	// Whether revocations must be known to the last 30s. Default: false.
	Sensitive bool `yaml:"sensitive"`
	// How old the knowledge of revocations may be, up to 720h. Default: 30s
	// where sensitive, else gateway.revocation_max_age.
	RevocationMaxAge *time.Duration `yaml:"revocation_max_age"`
	// Whether the client's Authorization, DPoP proof and the issuer's cookies
	// reach the service. Danger: the service can then act as the client
	// elsewhere. Default: false.
	ForwardCredentials bool `yaml:"forward_credentials"`
	// Whether everybody is let through, with or without a token. Danger: no
	// check at all; only the removal of credentials and of identity headers
	// remains. Default: false.
	Public bool `yaml:"public"`
	// Which addresses may use the route, besides the gateway's own `networks`.
	// Default: all.
	Networks Networks `yaml:"networks"`
	// How many requests anybody may send to this route, besides gateway.limits.
	// Danger: after an edit of any route, buckets of routes that are not shared
	// are full again. Default: none.
	Limits []Limit `yaml:"limits"`
	// Which web pages of other origins may use the route. Default: gateway.cors.
	CORS *CORS `yaml:"cors"`
	// How long the service may take to begin its answer, up to 1h. The answer has
	// to end within that and the 60s that a request may take to arrive, both since
	// the request began. Default: 15s.
	Timeout time.Duration `yaml:"timeout"`
	// Where responses go on (server-sent events, gRPC streams, WebSocket): for
	// how long, up to 24h, in place of `timeout`. A stream ends with its token,
	// too; the client connects again with a new one. Default: 0s, no streams.
	Stream time.Duration `yaml:"stream"`
	// Whether clients may upgrade to WebSocket; needs `stream`, and a service
	// without a sidecar. Danger: what goes over it afterwards is not checked, nor
	// is the Origin, which the service has to look at. Default: false.
	WebSocket bool `yaml:"websocket"`
}

const (
	defaultPublicURL = "https://localhost:8443"
	defaultListen    = "127.0.0.1:8443"
	sensitiveMaxAge  = 30 * time.Second
	longestMaxAge    = 720 * time.Hour
	longestTimeout   = time.Hour
	longestStream    = 24 * time.Hour
	defaultHSTS      = 8760 * time.Hour
	defaultTimeout   = 15 * time.Second
	defaultMaxAge    = 10 * time.Minute
)

// SetDefaults fills what is empty; default files are in dataDir.
func (g *Gateway) SetDefaults(dataDir string) {
	conf.Default(&g.Listen, defaultListen)
	conf.Default(&g.PublicURL, defaultPublicURL)
	conf.Default(&g.TLS.Certificate, conf.Path(filepath.Join(dataDir, "tls", "edge.crt")))
	conf.Default(&g.TLS.Key, conf.Path(filepath.Join(dataDir, "tls", "edge.key")))
	g.Issuer.URL = serve.Absolute(dataDir, g.Issuer.URL)
	conf.Default(&g.RevocationMaxAge, defaultMaxAge)
	if g.HSTSMaxAge == nil {
		age := defaultHSTS
		g.HSTSMaxAge = &age
	}
	if len(g.Issuers) == 0 {
		g.Issuers = []string{g.PublicURL}
	}
	g.CORS.setDefaults()
	for i := range g.Limits {
		g.Limits[i].setDefaults("gateway-")
	}
	for i := range g.Routes {
		conf.Default(&g.Routes[i].Timeout, defaultTimeout)
		g.Routes[i].CORS.setDefaults()
		for j := range g.Routes[i].Limits {
			g.Routes[i].Limits[j].setDefaults("")
		}
	}
	for _, service := range g.Services {
		service.Sidecar.setDefaults()
	}
}

// audienceOf is the audience that a route demands.
func (g *Gateway) audienceOf(r *Route) string {
	if r.Audience != "" {
		return r.Audience
	}
	return g.Audience
}

// issuersOf are the issuers that a route accepts.
func (g *Gateway) issuersOf(r *Route) []string {
	if len(r.Issuers) > 0 {
		return r.Issuers
	}
	return g.Issuers
}

// maxAgeOf is how stale revocation may be on a route.
func (g *Gateway) maxAgeOf(r *Route) time.Duration {
	switch {
	case r.RevocationMaxAge != nil:
		return *r.RevocationMaxAge
	case r.Sensitive:
		return sensitiveMaxAge
	default:
		return g.RevocationMaxAge
	}
}

// hasIssuer tells whether the issuer is behind this gateway.
func (g *Gateway) hasIssuer() bool { return g.Issuer.URL != "" }
