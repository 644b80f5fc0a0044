package app

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write puts a configuration into a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	writeText(t, path, text)
	return path
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, path string) *Config {
	t.Helper()
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const small = `
gateway:
  services:
    hello: {url: http://127.0.0.1:9300}
  routes:
    - {id: hello, path: /, service: hello, audience: https://hello.example, scopes: [read:hello]}
issuer:
  apis:
    - {audience: https://hello.example, scopes: [read:hello]}
`

// The parts find each other without being told where.
func TestDefaultsFitTogether(t *testing.T) {
	path := write(t, small)
	data := filepath.Join(filepath.Dir(path), "data")
	c := load(t, path)
	want := map[string][2]string{
		"data_dir":             {data, string(c.DataDir)},
		"issuer.url":           {"https://localhost:8443", c.Issuer.URL},
		"gateway.issuer.url":   {c.Issuer.Listen, c.Gateway.Issuer.URL},
		"issuer.listen":        {"unix:" + filepath.Join(data, "run", "issuer.sock"), c.Issuer.Listen},
		"authz issuer":         {c.Issuer.URL, c.Authz.Issuers[0].Issuer},
		"authz jwks":           {c.Issuer.Listen, c.Authz.Issuers[0].JWKSURL},
		"authz feed":           {c.Issuer.FeedListen, c.Authz.Issuers[0].Feed},
		"authz feed socket":    {"unix:" + filepath.Join(data, "run", "feed.sock"), c.Authz.Issuers[0].Feed},
		"controlplane.authz":   {c.Authz.Listen, c.ControlPlane.Authz[0]},
		"envoy.xds":            {c.ControlPlane.Listen, c.Envoy.XDS},
		"authz.local_identity": {"spiffe://gatehouse.local/gateway/edge", c.Authz.LocalIdentity},
		"gateway.issuers":      {c.Issuer.URL, c.Gateway.Issuers[0]},
	}
	for key, pair := range want {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", key, pair[1], pair[0])
		}
	}
}

func TestTrustDomainReachesEveryIdentity(t *testing.T) {
	c := load(t, write(t, "trust_domain: acme.example\n"+small))
	for key, id := range map[string]string{
		"authz.local_identity":        c.Authz.LocalIdentity,
		"controlplane.local_identity": c.ControlPlane.LocalIdentity,
		"controlplane.authz_identity": c.ControlPlane.AuthzIdentity,
		"authz feed_identity":         c.Authz.Issuers[0].FeedIdentity,
		"issuer.feed_clients":         c.Issuer.FeedClients[0],
		"controlplane trust domain":   "spiffe://" + c.ControlPlane.TrustDomain + "/",
	} {
		if !strings.HasPrefix(id, "spiffe://acme.example/") {
			t.Errorf("%s is %q", key, id)
		}
	}
}

// What is wrong in any part is told at once, with the file and the line.
func TestLoadTellsEverything(t *testing.T) {
	path := write(t, `version: 2
trust_domain: Acme
gateway:
  issuers: [https://other.example, https://localhost:8443]
  services:
    hello: {url: http://127.0.0.1:9300}
  routes:
    - {id: a, path: /a, service: hello, audience: https://hello.example, scopes: [read:hello], issuers: [https://localhost:8443]}
    - id: b
      path: /b
      service: hello
      audience: https://hello.example
      scopes: [read:hello, write:hello]
      issuers: [https://localhost:8443]
      policy: hello.approve
    - {id: c, path: /c, service: hello, audience: https://bye.example, scopes: [read:bye], issuers: [https://localhost:8443]}
issuer:
  access_token_lifetime: 1h
  telemetry: 127.0.0.1:9492
  apis:
    - {audience: https://hello.example, scopes: [read:hello]}
authz:
  skew: 2h
`)
	_, err := Load(path)
	invalid, ok := errors.AsType[*Invalid](err)
	if !ok {
		t.Fatalf("not *Invalid: %v", err)
	}
	var got []string
	for _, line := range invalid.Lines() {
		got = append(got, strings.TrimPrefix(line, path+":"))
	}
	want := []string{
		`1: version: "2" is no version that this gatehouse reads: write 1`,
		`2: trust_domain: "Acme" is no SPIFFE trust domain: use lower-case letters, digits, dots, dashes and underscores`,
		`4: gateway.issuers[0]: "https://other.example" is no issuer that the authorizer knows: add it to authz.issuers`,
		`13: gateway.routes[1].scopes[1]: "write:hello" is no scope of the API https://hello.example: add it to issuer.apis[0].scopes, or use one of read:hello`,
		`15: gateway.routes[1].policy: "hello.approve" is no policy that is there: write it into a folder ` + "`policies`" + ` beside this file`,
		`16: gateway.routes[2].audience: "https://bye.example" is the audience of no API: declare it under issuer.apis: - {audience: https://bye.example, scopes: [read:bye]}`,
		`18: issuer.access_token_lifetime: "1h0m0s" is out of bounds: choose 1s to 10m0s`,
		`19: issuer.telemetry: "127.0.0.1:9492" is also authz.telemetry: give each an address of its own`,
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing %s", line)
		}
	}
	if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "23: authz.skew: ") }) {
		t.Error("missing what is wrong with authz.skew")
	}
	if t.Failed() {
		t.Log(strings.Join(got, "\n"))
	}
}

func TestBrokenPoliciesMakeAConfigurationInvalid(t *testing.T) {
	path := write(t, small)
	policy := filepath.Join(filepath.Dir(path), "policies", "bad.rego")
	writeText(t, policy, "package orders.approve\n\nallow if {\n")
	_, err := Load(path)
	invalid, ok := errors.AsType[*Invalid](err)
	if !ok || len(invalid.Policies) == 0 || len(invalid.Violations) > 0 || !strings.HasPrefix(invalid.Lines()[0], policy+":") {
		t.Errorf("%v", err)
	}
}

func TestLoadSaysWhatToDoWithoutAFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "gatehouse.yaml"))
	if err == nil || !strings.Contains(err.Error(), "`gatehouse init` writes one") {
		t.Errorf("%v", err)
	}
}

func TestConfigurationWithoutAnIssuer(t *testing.T) {
	c := load(t, write(t, `
gateway: {issuers: [https://idp.example]}
authz:
  issuers: [{issuer: https://idp.example, feed: "unix:run/feed.sock"}]
`))
	if diff := cmp.Diff([]Part{Authz, ControlPlane, Envoy}, c.All()); diff != "" || c.Gateway.Issuer.URL != "" {
		t.Errorf("%s gateway.issuer.url %q", diff, c.Gateway.Issuer.URL)
	}
}

// The scaffold and the sample are valid as they are written.
func TestShippedConfigurations(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	load(t, "../../sample/gatehouse.yaml")
}
