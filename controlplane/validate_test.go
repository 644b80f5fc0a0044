package controlplane

import (
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// gatewayWith is a valid gateway with one line more of YAML; services a and b
// are there.
func gatewayWith(t *testing.T, line string) Gateway {
	services := "services: {a: {url: http://127.0.0.1:1}, b: {url: h2c://127.0.0.1:2}}\n"
	if strings.HasPrefix(line, "services:") {
		services = ""
	}
	return readGateway(t, services+line+"\n")
}

func keysOf(vs conf.Violations) string {
	var keys []string
	for _, v := range vs {
		keys = append(keys, v.Key)
	}
	return strings.Join(keys, " ")
}

func TestGatewayViolations(t *testing.T) {
	for _, row := range []struct{ line, keys string }{
		{"audience: x", ""},
		{"listen: 8443", "listen"},
		{"listen: localhost:8443", "listen"},
		{"listen: 127.0.0.1:0", "listen"},
		{"redirect_listen: 127.0.0.1:8443", "redirect_listen"},
		{"redirect_listen: ':80'", "redirect_listen"},
		{"issuers: [https://a]\npublic_url: http://localhost:8443", "public_url"},
		{"public_url: https://localhost:8443/x", "public_url"},
		{"hsts_max_age: -1s", "hsts_max_age"},
		{"hsts_max_age: 0s", ""},
		{"hsts_max_age: 1ms", "hsts_max_age"},
		{"mtls_host: mtls.localhost", ""},
		{"mtls_host: localhost", "mtls_host"},
		{"mtls_host: mtls.localhost:8443", "mtls_host"},
		{"mtls_host: '*.localhost'", "mtls_host"},
		{"issuer: {url: 'unix:/run/issuer.sock'}", ""},
		{"issuer: {url: 'unix:'}", "issuer.url"},
		{"services: {a: {url: 'unix:/run/a.sock'}}", "services.a.url"},
		{"issuer: {url: http://127.0.0.1:9400}", ""},
		{"issuer: {url: http://10.0.0.1:9400}", "issuer.url"},
		{"issuer: {url: h2c://127.0.0.1:9400}", "issuer.url"},
		{"issuer: {url: https://login.example}", ""},
		{"issuers: [http://localhost]", "issuers[0]"},
		{"issuers: [https://a, https://a]", "issuers[1]"},
		{"issuers: [https://a?b]", "issuers[0]"},
		{"revocation_max_age: -1s", "revocation_max_age"},
		{"revocation_max_age: 721h", "revocation_max_age"},

		{"services: {A: {url: http://127.0.0.1:1}}", "services.A"},
		{"services: {a_b: {url: http://127.0.0.1:1}}", "services.a_b"},
		{"services: {a: {}}", "services.a.url"},
		{"services: {a: {url: 127.0.0.1:1}}", "services.a.url"},
		{"services: {a: {url: ftp://127.0.0.1}}", "services.a.url"},
		{"services: {a: {url: http://127.0.0.1/x}}", "services.a.url"},
		{"services: {a: {url: http://u@127.0.0.1}}", "services.a.url"},
		{"services: {a: {url: http://127.0.0.1:99999}}", "services.a.url"},
		{"services: {a: {url: h2c://127.0.0.1}}", "services.a.url"},
		{"services: {a: {url: http://10.0.0.1}}", "services.a.url"},
		{"services: {a: {url: h2c://orders.internal:1}}", "services.a.url"},
		{"services: {a: {url: http://10.0.0.1, allow_plaintext: true}}", ""},
		{"services: {a: {url: http://localhost}}", ""},
		{"services: {a: {url: https://10.0.0.1}}", ""},
		{"services: {a: {url: http://127.0.0.1, ca: x}}", "services.a.ca"},
	} {
		g := gatewayWith(t, row.line)
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", row.line, got, row.keys, g.Validate())
		}
	}
}

func TestRouteViolations(t *testing.T) {
	for _, row := range []struct{ routes, keys string }{
		{"{id: a, path: /a, service: a, audience: x}", ""},
		{"{}", "routes[0].id routes[0].path routes[0].service routes[0].audience"},
		{"{id: 'a b', path: /a, service: a, audience: x}", "routes[0].id"},
		{"{id: issuer, path: /a, service: a, audience: x}", "routes[0].id"},
		{"{id: gatehouse.x, path: /a, service: a, audience: x}", "routes[0].id"},
		{"{id: a, path: /a, service: a, audience: x}, {id: a, path: /b, service: a, audience: x}", "routes[1].id"},
		{"{id: a, path: /a, service: c, audience: x}", "routes[0].service"},
		{"{id: a, path: /a, service: a}", "routes[0].audience"},
		{"{id: a, path: /a, service: a, audience: x, methods: [get]}", "routes[0].methods[0]"},
		{"{id: a, path: /a, service: a, audience: x, methods: [GET, CONNECT]}", "routes[0].methods[1]"},
		{"{id: a, path: /a, service: a, audience: x, scopes: ['a b', 'ok', 'q\"']}", "routes[0].scopes[0] routes[0].scopes[2]"},
		{"{id: a, path: /a, service: a, audience: x, policy: a-b}", "routes[0].policy"},
		{"{id: a, path: /a, service: a, audience: x, timeout: -1s}", "routes[0].timeout"},
		{"{id: a, path: /a, service: a, audience: x, timeout: 2h}", "routes[0].timeout"},
		{"{id: a, path: /a, service: a, audience: x, stream: 24h, websocket: true}", ""},
		{"{id: a, path: /a, service: a, audience: x, stream: -1s}", "routes[0].stream"},
		{"{id: a, path: /a, service: a, audience: x, stream: 25h}", "routes[0].stream"},
		{"{id: a, path: /a, service: a, audience: x, websocket: true}", "routes[0].websocket"},
		{"{id: a, path: /a, service: a, audience: x, issuers: [http://x]}", "routes[0].issuers[0]"},
		{"{id: a, path: /a, service: a, audience: x, revocation_max_age: -5s}", "routes[0].revocation_max_age"},
		{"{id: a, path: /a, service: a, audience: x, revocation_max_age: 0s}", "routes[0].revocation_max_age"},
		{"{id: a, path: /a, service: a, audience: x, sensitive: true, revocation_max_age: 31s}", "routes[0].revocation_max_age"},
		{"{id: a, path: /a, service: a, audience: x, sensitive: true, revocation_max_age: 10s}", ""},
		{"{id: a, path: /a, service: a, audience: x, methods: []}", "routes[0].methods"},
		{"{id: a, path: /a, service: a, public: true}", ""},
		{"{id: a, path: /a, service: a, public: true, scopes: [x], policy: p, audience: x, sensitive: true}", "routes[0].audience routes[0].scopes routes[0].policy routes[0].sensitive"},

		// Reach.
		{"{id: a, path: /a, service: a, audience: x}, {id: b, path: /a, service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: /a, methods: [GET], service: a, audience: x}, {id: b, path: /a, service: b, audience: x}", ""},
		{"{id: a, path: /a, methods: [GET, PUT], service: a, audience: x}, {id: b, path: /a, methods: [PUT], service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: /a/**, service: a, audience: x}, {id: b, path: '/a/{x}/c', service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: '/a/{x}', service: a, audience: x}, {id: b, path: /a/b, service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: '/a/{x}', service: a, audience: x}, {id: b, path: /a/, service: b, audience: x}", ""},
		{"{id: a, path: /a/b, service: a, audience: x}, {id: b, path: '/a/{x}', service: b, audience: x}", ""},
		{"{id: a, path: /**, service: a, audience: x}, {id: b, path: /b, service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: /a/**, service: a, audience: x}, {id: b, path: /ab, service: b, audience: x}", ""},
		{"{id: a, path: /**, methods: [GET], service: a, audience: x}, {id: b, path: /**, methods: [PUT], service: a, audience: x}, {id: c, path: /a, methods: [GET, PUT], service: b, audience: x}", "routes[2].path"},
		{"{id: a, path: /**, methods: [GET], service: a, audience: x}, {id: b, path: /**, methods: [PUT], service: a, audience: x}, {id: c, path: /a, service: b, audience: x}", ""},

		// What is guarded is not open in part.
		{"{id: a, path: /**, methods: [GET], service: a, public: true}, {id: b, path: /b/**, service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: /**, methods: [GET], service: a, public: true}, {id: b, path: /b/**, methods: [PUT], service: b, audience: x}", ""},
		{"{id: a, path: '/{x}/b', service: a, public: true}, {id: b, path: /a/**, service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: '/{x}/b', service: a, public: true}, {id: b, path: '/a/{y}', service: b, audience: x}", "routes[1].path"},
		{"{id: a, path: '/{x}/b', service: a, public: true}, {id: b, path: /a/c/**, service: b, audience: x}", ""},
		{"{id: a, path: '/{x}', service: a, public: true}, {id: b, path: /, service: b, audience: x}", ""},
		{"{id: a, path: /a/b, service: a, public: true}, {id: b, path: /a/**, service: b, audience: x}", ""},
		{"{id: a, path: /a/b, service: a, public: true}, {id: b, path: '/{x}/b', service: b, audience: x}", ""},
		{"{id: a, path: '/{x}/b', service: a, public: true}, {id: b, path: /a/**, service: b, public: true}", ""},
	} {
		g := gatewayWith(t, "routes: ["+row.routes+"]")
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", row.routes, got, row.keys, g.Validate())
		}
	}
}

// The issuer's own paths are taken only where there is an issuer.
func TestIssuersPathsAreReserved(t *testing.T) {
	for path, taken := range map[string]bool{
		"/oauth": true, "/oauth/x": true, "/oauth/**": true, "/oauth/{x}/y": true, "/.well-known/openid-configuration": true,
		"/oauth2": false, "/**": false, "/.well-known/security.txt": false, "/.well-known/**": false,
	} {
		routes := "routes: [{id: a, path: '" + path + "', service: a, public: true}]"
		without, with := gatewayWith(t, routes), gatewayWith(t, "issuer: {url: http://127.0.0.1:9400}\n"+routes)
		if vs := without.Validate(); len(vs) > 0 {
			t.Errorf("%s without an issuer: %v", path, vs)
		}
		if got := len(with.Validate()) > 0; got != taken {
			t.Errorf("%s with an issuer: taken %v, want %v", path, got, taken)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, ok := range map[string]bool{
		"/": true, "/a": true, "/a/": true, "/a/{id}": true, "/a/{id}/b/**": true, "/**": true, "/a/**": true, "/a.b/c-d_e~f": true, "/pkg.Service/Method": true, "/a:b": true,
		"": false, "a": false, "//": false, "/a//b": false, "/a/./b": false, "/a/../b": false, "/..": false, "/a/**/b": false, "/a**": false, "/a/*": false,
		"/a/{}": false, "/a/{1}": false, "/a/x{id}": false, "/a/{id": false, "/a?b": false, "/a#b": false, "/a b": false, "/a;b": false, "/%41": false, `/a\b`: false, "/ä": false, "/a//**": false,
		longestPath(): true, longestPath() + "x": false, strings.Repeat("/{a}", maxNames+1): false,
		"/" + strings.Repeat(":", maxReserved): true, "/" + strings.Repeat(":", maxReserved+1): false,
	} {
		if _, err := parsePath(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// longestPath is the costliest path there may be.
func longestPath() string {
	costly := strings.Repeat("/{a}", maxNames) + "/" + strings.Repeat(":", maxReserved)
	return costly + strings.Repeat("x", maxPath-len(costly))
}

func TestConfigViolations(t *testing.T) {
	id := serve.Identity{Certificate: "c", Key: "k", CA: "a"}
	for name, row := range map[string]struct {
		config Config
		keys   string
	}{
		"all by default":      {Config{}, ""},
		"TCP":                 {Config{Listen: "127.0.0.1:1"}, ""}, // the CA of the process may have one
		"TCP with files":      {Config{Listen: "127.0.0.1:1", Identity: id, Authz: []string{"10.0.0.1:1", "authz:2"}}, ""},
		"half an identity":    {Config{Identity: serve.Identity{Key: "k", CA: "a"}}, "identity.certificate"},
		"telemetry for all":   {Config{Telemetry: "0.0.0.0:1"}, "telemetry"},
		"no SPIFFE ids":       {Config{LocalIdentity: "edge", AuthzIdentity: "https://x/y"}, "local_identity authz_identity"},
		"no addresses":        {Config{Authz: []string{"x", "unix:"}}, "authz[0] authz[1]"},
		"an authorizer twice": {Config{Authz: []string{"a:1", "a:1"}}, "authz[1]"},
		"sockets and TCP":     {Config{Authz: []string{"unix:/a", "a:1"}}, ""},
	} {
		row.config.SetDefaults("/data")
		if got := keysOf(row.config.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q", name, got, row.keys)
		}
	}
}

func TestTrustDomainFollowsTheLocalIdentity(t *testing.T) {
	c := Config{LocalIdentity: "spiffe://prod.example/gateway/edge"}
	c.SetDefaults("/data")
	if c.TrustDomain != "prod.example" || c.AuthzIdentity != "spiffe://prod.example/authz" {
		t.Errorf("%+v", c)
	}
}
