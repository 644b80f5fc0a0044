package controlplane

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// The same configuration is the same bytes, whatever the order of maps, and of
// lists whose order says nothing.
func TestBuildIsDeterministic(t *testing.T) {
	for _, file := range []string{"testdata/routes.in.yaml", "testdata/mesh.in.yaml"} {
		text := string(readFile(t, file))
		inputs := func(g Gateway) Inputs {
			in := testInputs(t, g)
			in.Authz = []string{"unix:/run/authz.sock", "10.0.0.8:9500"}
			return in
		}
		want := buildAll(t, inputs(readGateway(t, text)))
		for i := range 50 {
			g := readGateway(t, text)
			permute(&g, i)
			for group, got := range buildAll(t, inputs(g)) {
				sameBytes(t, fmt.Sprintf("%s, build %d of %s", file, i, group), want[group], got)
			}
		}
	}
}

func sameBytes(t *testing.T, what string, want, got *Snapshot) {
	t.Helper()
	if got.Version != want.Version {
		t.Fatalf("%s has another version", what)
	}
	for _, typeURL := range allTypes {
		for name, r := range want.types[typeURL] {
			if !bytes.Equal(r.GetResource().GetValue(), got.types[typeURL][name].GetResource().GetValue()) {
				t.Fatalf("%s: %s %s has other bytes", what, typeURL, name)
			}
		}
	}
}

// meshInputs are those of the golden mesh.
func meshInputs(t *testing.T) Inputs {
	in := testInputs(t, readGateway(t, string(readFile(t, "testdata/mesh.in.yaml"))))
	in.Authz = append(in.Authz, "10.0.0.8:9500")
	return in
}

// Groups share what is equal, have nothing of another's, and none but the edge
// has its key.
func TestGroupsHaveTheirOwn(t *testing.T) {
	groups := buildAll(t, meshInputs(t))
	names := map[string]string{}
	for group, s := range groups {
		var all []string
		for _, typeURL := range allTypes {
			for _, name := range sortedKeys(s.types[typeURL]) {
				all = append(all, strings.ToLower(kindOf(typeURL))+" "+name)
			}
		}
		names[group] = strings.Join(all, ", ")
	}
	want := map[string]string{
		"edge":            "cluster authz, cluster service/site, cluster sidecar/orders, cluster sidecar/profile, cluster watch, secret edge, listener edge, routeconfiguration edge",
		"service/orders":  "cluster authz, cluster service/orders, cluster sidecar/profile, cluster watch, listener inbound, listener outbound, routeconfiguration inbound, routeconfiguration outbound",
		"service/profile": "cluster authz, cluster service/profile, cluster watch, listener inbound, routeconfiguration inbound",
		"service/reports": "cluster authz, cluster sidecar/orders, cluster sidecar/profile, cluster watch, listener outbound, routeconfiguration outbound",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	edge, orders, profile := groups["edge"].types[clusterType], groups["service/orders"].types[clusterType], groups["service/profile"].types[clusterType]
	if edge["sidecar/profile"] != orders["sidecar/profile"] || orders[authzCluster] != profile[authzCluster] {
		t.Error("equal resources are not shared")
	}
}

// permute rebuilds maps and turns lists.
func permute(g *Gateway, i int) {
	services := map[string]Service{}
	names := sortedKeys(g.Services)
	for j := range names {
		name := names[(j+i)%len(names)]
		services[name] = g.Services[name]
	}
	turn := func(list []string) []string {
		if len(list) == 0 {
			return list
		}
		k := i % len(list)
		return slices.Concat(list[k:], list[:k])
	}
	for name, s := range services {
		s.AllowFrom, s.Routes = turn(s.AllowFrom), slices.Clone(s.Routes)
		for j := range s.Routes {
			s.Routes[j].Scopes, s.Routes[j].Methods = turn(s.Routes[j].Scopes), turn(s.Routes[j].Methods)
		}
		services[name] = s
	}
	g.Services = services
	g.Issuers = turn(g.Issuers)
	for j := range g.Routes {
		g.Routes[j].Scopes, g.Routes[j].Methods = turn(g.Routes[j].Scopes), turn(g.Routes[j].Methods)
	}
}

// A one-route edit changes the route configuration and nothing else.
func TestBuildChangesOnlyWhatChanged(t *testing.T) {
	g := readGateway(t, string(readFile(t, "testdata/routes.in.yaml")))
	before := build(t, testInputs(t, g))
	g.Routes[0].Scopes = []string{"other"}
	after := build(t, testInputs(t, g))
	for _, typeURL := range allTypes {
		for name := range before.types[typeURL] {
			changed := before.types[typeURL][name].GetVersion() != after.types[typeURL][name].GetVersion()
			if changed != (typeURL == routeType && name == edgeRoutes) {
				t.Errorf("%s %s changed: %v", typeURL, name, changed)
			}
		}
	}
}

// What cannot be built is told, and never half built.
func TestBuildRefuses(t *testing.T) {
	good := func() Inputs { return testInputs(t, readGateway(t, string(readFile(t, "testdata/routes.in.yaml")))) }
	for name, row := range map[string]struct {
		spoil func(*Inputs)
		want  string
	}{
		"an invalid gateway": {func(in *Inputs) { in.Gateway.Routes[0].Service = "x" }, "gateway.routes[0].service"},
		"an unknown policy":  {func(in *Inputs) { in.Policies = []string{"other"} }, `gateway.routes[1].policy: "orders.approve" is no policy that is there`},
		"no rule key":        {func(in *Inputs) { in.Signer = nil }, "rule key"},
		"no authorizer":      {func(in *Inputs) { in.Authz = nil }, "controlplane.authz"},
		"sidecars without authorizers that they reach": {func(in *Inputs) { in.Gateway = meshInputs(t).Gateway }, "on HOST:PORT"},
		"no trust domain":           {func(in *Inputs) { in.TrustDomain = "" }, "trust domain"},
		"no certificate":            {func(in *Inputs) { in.Certificate = nil }, "gateway.tls"},
		"another certificate's key": {func(in *Inputs) { in.Key = otherKey(t) }, "gateway.tls"},
	} {
		in := good()
		row.spoil(&in)
		if s, err := Build(in); err == nil || s != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, row.want)
		}
	}
	in := good()
	in.Policies = []string{"orders.approve"}
	build(t, in)
}

func otherKey(t *testing.T) []byte {
	_, key := pair(t)
	return key
}

// The rule of a route says what the route demands, signed.
func TestRules(t *testing.T) {
	g := readGateway(t, string(readFile(t, "testdata/routes.in.yaml")))
	signer := NewRuleSigner(testKey())
	public := testKey().Public().(ed25519.PublicKey)
	for i, want := range map[int]*rulev1.Rule{
		0: {Route: "orders-list", Audience: "https://orders.example", Scopes: []string{"read:orders", "write:orders"}, Issuers: []string{"https://localhost:8443", "https://login.example"}, RevocationMaxAgeMs: 300_000},
		1: {Route: "orders-delete", Audience: "https://default.example", Scopes: []string{"write:orders"}, Policy: "orders.approve", Issuers: []string{"https://localhost:8443", "https://login.example"}, RevocationMaxAgeMs: 30_000},
		2: {Route: "orders-items", Audience: "https://default.example", Issuers: []string{"https://login.example"}, RevocationMaxAgeMs: 2_000},
	} {
		want.Service = "orders"
		want.NodeIdentities = []string{"spiffe://gatehouse.local/gateway/edge"}
		want.TokenSources = []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER, rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_DPOP}
		want.Origins = []string{"https://localhost:8443"}
		want.AssertionAudience = "spiffe://gatehouse.local/service/orders"
		encoded := signer.sign(edgeRule(&g, &g.Routes[i], "gatehouse.local"))
		raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		signed, rule := new(rulev1.SignedRule), new(rulev1.Rule)
		if err := proto.Unmarshal(raw, signed); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(signed.GetRule(), rule); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(rule, want) {
			t.Errorf("routes[%d]: %v, want %v", i, rule, want)
		}
		if !bytes.Equal(signed.GetKeyId(), envoy.RuleKeyID(public)) || !ed25519.Verify(public, append([]byte(envoy.RuleContext), signed.GetRule()...), signed.GetSignature()) {
			t.Errorf("routes[%d]: the signature does not hold", i)
		}
	}
}
