package app

import (
	"errors"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/controlplane"
	"gatehouse.dev/gatehouse/internal/serve"
)

// meshed is a site with two sidecars, which Unix sockets alone cannot serve.
const meshed = `
gateway:
  services:
    profile: {url: http://127.0.0.1:9302, sidecar: {address: 127.0.0.1:9502, outbound: 127.0.0.1:9602}}
    hello:
      url: http://127.0.0.1:9300
      sidecar: {address: 127.0.0.1:LISTEN}
      allow_from: [profile]
      routes: [{id: all, path: /**, scopes: [SCOPE]}]
  routes:
    - {id: hello, path: /, service: hello, audience: https://hello.example, scopes: [read:hello]}
issuer:
  apis:
    - {audience: https://hello.example, scopes: [read:hello]}
`

const overTLS = `
controlplane: {listen: 127.0.0.1:9590, identity: {certificate: c, key: k, ca: a}}
authz: {listen: 127.0.0.1:9591, identity: {certificate: c, key: k, ca: a}}
envoy: {identity: {certificate: c, key: k, ca: a}}
`

func TestSidecarsNeedPartsThatTheyReach(t *testing.T) {
	fill := strings.NewReplacer("LISTEN", "9501", "SCOPE", "read:hello")
	for name, row := range map[string]struct{ text, keys string }{
		"mutual TLS":            {fill.Replace(meshed) + overTLS, ""},
		"by default":            {fill.Replace(meshed), ""},
		"Unix sockets":          {fill.Replace(meshed) + "controlplane: {listen: 'unix:/run/x'}\nauthz: {listen: 'unix:/run/a'}\n", "controlplane.listen controlplane.authz"},
		"a socket beside TLS":   {fill.Replace(meshed) + strings.Replace(overTLS, "{listen: 127.0.0.1:9590,", "{listen: 127.0.0.1:9590, authz: ['unix:/run/a', '10.0.0.1:9591'],", 1), ""},
		"both without sidecars": {strings.Replace(small, "gateway:", "controlplane: {authz: ['unix:/run/a', '10.0.0.1:9591']}\ngateway:", 1), "controlplane.authz"},
		"a scope of no API":     {strings.NewReplacer("LISTEN", "9501", "SCOPE", "write:hello").Replace(meshed) + overTLS, "gateway.services.hello.routes[0].scopes[0]"},
		"a part's own address":  {strings.NewReplacer("LISTEN", "9591", "SCOPE", "read:hello").Replace(meshed) + overTLS, "gateway.services.hello.sidecar.listen"},
		"the gateway's address": {strings.NewReplacer("LISTEN", "8443", "SCOPE", "read:hello").Replace(meshed) + overTLS, "gateway.services.hello.sidecar.listen"},
	} {
		_, err := Load(write(t, row.text))
		var keys []string
		if invalid, ok := errors.AsType[*Invalid](err); ok {
			for _, v := range invalid.Violations {
				keys = append(keys, v.Key)
			}
		}
		if got := strings.Join(keys, " "); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", name, got, row.keys, err)
		}
	}
}

// An edge without a certificate is told before it starts, where it has sidecars
// to call.
func TestEdgeNeedsAnIdentityForSidecars(t *testing.T) {
	var with Config
	with.Gateway.Services = map[string]controlplane.Service{"orders": {Sidecar: &controlplane.Sidecar{}}}
	if err := with.checkEdgeIdentity(); err == nil || !strings.Contains(err.Error(), "envoy.identity") {
		t.Errorf("without an identity: %v", err)
	}
	with.Envoy.Identity = serve.Identity{Certificate: "c", Key: "k", CA: "a"}
	if err := errors.Join(with.checkEdgeIdentity(), new(Config).checkEdgeIdentity()); err != nil {
		t.Error(err)
	}
}
