package controlplane

import (
	"testing"
)

// meshWith is a gateway whose services orders and profile have sidecars, with
// more lines for orders.
func meshWith(t *testing.T, lines string) Gateway {
	return readGateway(t, `
services:
  site: {url: http://127.0.0.1:9100}
  profile: {url: http://127.0.0.1:9102, sidecar: {address: 127.0.0.1:9202, outbound: 127.0.0.1:9302}}
  orders:
    url: http://127.0.0.1:9101
    sidecar: {address: 127.0.0.1:9201}
`+lines)
}

func TestServiceViolations(t *testing.T) {
	const orders = "services.orders."
	for _, row := range []struct{ lines, keys string }{
		{"", ""},
		{"    allow_from: [profile]", ""},
		{"    allow_from: [nobody]", orders + "allow_from[0]"},
		{"    allow_from: [orders]", orders + "allow_from[0]"},
		{"    allow_from: [site]", orders + "allow_from[0]"}, // it has no outbound
		{"    allow_from: [profile, profile]", orders + "allow_from[1]"},
		{"    allow_from: [edge]", orders + "allow_from[0]"},
		{"    routes: []", orders + "routes"},
		{"    routes: [{id: a, path: /a}]", ""},
		{"    routes: [{}]", orders + "routes[0].id " + orders + "routes[0].path"},
		{"    routes: [{id: issuer, path: /a/../b, methods: [get], scopes: ['a b'], policy: a-b}]",
			orders + "routes[0].id " + orders + "routes[0].path " + orders + "routes[0].methods[0] " + orders + "routes[0].scopes[0] " + orders + "routes[0].policy"},
		{"    routes: [{id: a, path: /a, sensitive: true, revocation_max_age: 31s}]", orders + "routes[0].revocation_max_age"},
		{"    routes: [{id: a, path: /a, public: true, scopes: [x]}]", orders + "routes[0].scopes"},
		{"    routes: [{id: a, path: /a}, {id: a, path: /b}]", orders + "routes[1].id"},
		{"    routes: [{id: a, path: /a/**}, {id: b, path: /a/b}]", orders + "routes[1].path"},
		{"    routes: [{id: a, path: '/{x}/b', public: true}, {id: b, path: /a/**}]", orders + "routes[1].path"},
		{"    routes: [{id: a, path: /oauth/x}]", ""}, // the issuer is not here

		// What the gateway promises and the service's routes do not keep.
		{"routes: [{id: p, path: /p, service: orders, public: true}]", ""},
		{"    routes: [{id: a, path: /**}]\nroutes: [{id: p, path: /p, service: orders, public: true}]", "routes[0].public"},
		{"    routes: [{id: a, path: /p, public: true}]\nroutes: [{id: p, path: /p, service: orders, public: true}]", ""},
		{"    routes: [{id: a, path: /p, methods: [GET], public: true}]\nroutes: [{id: p, path: /p, service: orders, public: true}]", "routes[0].public"},
		{"    routes: [{id: a, path: /p, methods: [GET], public: true}]\nroutes: [{id: p, path: /p, methods: [GET], service: orders, public: true}]", ""},
		{"    routes: [{id: a, path: /p, methods: [GET], public: true}]\nroutes: [{id: p, path: /p, methods: [GET, PUT], service: orders, public: true}]", "routes[0].public"},
		{"    routes: [{id: a, path: /p/**}]\nroutes: [{id: p, path: /p, service: orders, audience: x, forward_credentials: true}]", "routes[0].forward_credentials"},
		{"    routes: [{id: a, path: /p/**, forward_credentials: true}]\nroutes: [{id: p, path: /p, service: orders, audience: x, forward_credentials: true}]", ""},
	} {
		g := meshWith(t, row.lines)
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", row.lines, got, row.keys, g.Validate())
		}
	}
}

func TestSidecarViolations(t *testing.T) {
	const a = "services.a."
	for _, row := range []struct{ service, keys string }{
		{"sidecar: {address: 127.0.0.1:9201}", ""},
		{"sidecar: {address: 'orders.internal:9201'}", ""},
		{"sidecar: {address: 'orders.internal:9201', listen: '0.0.0.0:9201', outbound: '127.0.0.1:9301', timeout: 1m}", ""},
		{"sidecar: {outbound: 127.0.0.1:9301}", ""},
		{"sidecar: {}", a + "sidecar.address"},
		{"sidecar: {address: '9201'}", a + "sidecar.address"},
		{"sidecar: {address: '0.0.0.0:9201'}", a + "sidecar.address"},
		{"sidecar: {address: '10.0.0.1:9201', listen: 'orders.internal:9201'}", a + "sidecar.listen"},
		{"sidecar: {outbound: 127.0.0.1:9301, listen: '127.0.0.1:9201'}", a + "sidecar.listen"},
		{"sidecar: {outbound: '0.0.0.0:9301'}", a + "sidecar.outbound"},
		{"sidecar: {outbound: '10.0.0.1:9301'}", a + "sidecar.outbound"},
		{"sidecar: {outbound: 'localhost:9301'}", a + "sidecar.outbound"},
		{"sidecar: {address: 127.0.0.1:9201, timeout: 2h}", a + "sidecar.timeout"},
		{"sidecar: {address: 127.0.0.1:9201, timeout: -1s}", a + "sidecar.timeout"},
		// Where the service itself listens.
		{"url: 'http://127.0.0.1:9201', sidecar: {address: 127.0.0.1:9201}", a + "url"},
		{"url: 'http://localhost:9201', sidecar: {address: '10.0.0.1:9201', listen: '0.0.0.0:9201'}", a + "url"},
		{"url: 'http://10.0.0.2:9101', sidecar: {address: 127.0.0.1:9201}", a + "url"},
		{"url: 'http://10.0.0.2:9101', allow_plaintext: true, sidecar: {address: 127.0.0.1:9201}", a + "url"},
		{"url: 'https://10.0.0.2:9101', sidecar: {address: 127.0.0.1:9201}", ""},
		// On which machine.
		{"sidecar: {address: 127.0.0.1:9201, outbound: 127.0.0.1:9201}", a + "sidecar.outbound"},
		{"sidecar: {address: 127.0.0.1:8443}", a + "sidecar.listen"},
		{"sidecar: {address: 127.0.0.1:9299}", "services.b.sidecar.address"},                            // b's
		{"sidecar: {address: 127.0.0.1:9201, listen: '0.0.0.0:9299'}", "services.b.sidecar.listen"},     // as b's
		{"sidecar: {address: 127.0.0.1:9201, outbound: 127.0.0.1:9399}", "services.b.sidecar.outbound"}, // as b's
		{"sidecar: {address: '10.0.0.1:9201', listen: '0.0.0.0:9299', outbound: '127.0.0.1:9399'}", ""}, // elsewhere
		{"sidecar: {address: '127.0.0.2:9299'}", ""},                                                    // another address
		{"allow_from: [b]", a + "allow_from"},                                                           // nobody would enforce it
		{"sidecar: {outbound: 127.0.0.1:9301}, allow_from: [b]", a + "sidecar.address"},                 // nobody could come
		{"routes: [{id: a, path: /a}]", a + "routes"},                                                   // nobody would enforce them
		{"sidecar: {outbound: 127.0.0.1:9301}, routes: [{id: a, path: /a}]", a + "routes"},              // nobody could come
	} {
		url := "url: http://127.0.0.1:9101, "
		if row.service[:3] == "url" {
			url = ""
		}
		g := readGateway(t, `
services:
  b: {url: http://127.0.0.1:9102, sidecar: {address: 127.0.0.1:9299, outbound: 127.0.0.1:9399}}
  a: {`+url+row.service+`}
`)
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", row.service, got, row.keys, g.Validate())
		}
	}
	g := readGateway(t, `
services: {a: {url: http://127.0.0.1:9101, sidecar: {outbound: 127.0.0.1:9301}}}
routes: [{id: r, path: /, service: a, audience: x}]
`)
	if got := keysOf(g.Validate()); got != "services.a.sidecar.address" {
		t.Errorf("a route to a sidecar that nobody reaches: violations of %q", got)
	}
}

func TestSidecarDefaults(t *testing.T) {
	for address, listen := range map[string]string{"127.0.0.1:1": "127.0.0.1:1", "orders.internal:2": "0.0.0.0:2", "localhost:3": "127.0.0.1:3", "[::1]:4": "[::1]:4"} {
		g := readGateway(t, "services: {a: {url: http://127.0.0.1:9, sidecar: {address: '"+address+"'}}}")
		if got := g.Services["a"].Sidecar.Listen; got != listen {
			t.Errorf("%s: listens on %q, want %q", address, got, listen)
		}
	}
	g := meshWith(t, `
routes:
  - {id: a, path: /a, service: orders, audience: x, timeout: 1m}
  - {id: b, path: /b, service: profile, audience: x, timeout: 1s}
`)
	if orders, profile := g.timeoutOf("orders"), g.timeoutOf("profile"); orders.String() != "1m0s" || profile != defaultTimeout {
		t.Errorf("timeouts of %v and %v", orders, profile)
	}
}
