package controlplane

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testKey signs the rules of golden files: a fixed seed, good for nothing else.
func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

// readGateway is a gateway as gatehouse.yaml has it, with its defaults.
func readGateway(t *testing.T, text string) Gateway {
	t.Helper()
	var g Gateway
	_, faults := conf.Decode([]byte(text), "/etc/gatehouse", &g)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	g.SetDefaults("/data")
	return g
}

// testInputs are Inputs with what never is in a golden file.
func testInputs(t *testing.T, g Gateway) Inputs {
	t.Helper()
	certificate, key := readFile(t, "testdata/edge.crt"), readFile(t, "testdata/edge.key")
	in := Inputs{
		Gateway: g, TrustDomain: "gatehouse.local", Signer: NewRuleSigner(testKey()),
		Certificate: certificate, Key: key, Authorities: map[string][]byte{},
		Authz: []string{"unix:/run/authz.sock"}, AuthzIdentity: "spiffe://gatehouse.local/authz",
	}
	lists, found := g.ReadLists()
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	in.Lists = lists
	for name, service := range g.Services {
		if service.CA != "" {
			in.Authorities[name] = certificate
		}
	}
	return in
}

// build is the edge's snapshot.
func build(t *testing.T, in Inputs) *Snapshot {
	t.Helper()
	return buildAll(t, in)[envoy.EdgeGroup]
}

func buildAll(t *testing.T, in Inputs) map[string]*Snapshot {
	t.Helper()
	groups, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

// Each NAME.in.yaml is a gateway, and NAME.out.yaml all that it becomes for the
// edge, NAME.GROUP.out.yaml for another group; each is also what the real Envoy
// takes.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			in := testInputs(t, readGateway(t, string(readFile(t, file))))
			if name == "limits" {
				in.RateLimit, in.Plans = []string{"unix:/run/ratelimit.sock"}, true
			}
			if strings.HasSuffix(name, "-mtls") {
				in.Authz = []string{"authz-0.internal:9500", "10.0.0.8:9500"}
			} else if in.Gateway.HasSidecars() {
				in.Authz = append(in.Authz, "10.0.0.8:9500")
			}
			if name == "denied" {
				in.Denied = []string{"spiffe://gatehouse.local/service/profile"}
			}
			for group, s := range buildAll(t, in) {
				suffix := "." + strings.ReplaceAll(group, "/", "-")
				if group == envoy.EdgeGroup {
					suffix = ""
				}
				compareGolden(t, strings.TrimSuffix(file, ".in.yaml")+suffix+".out.yaml", toYAML(t, s))
				acceptedByEnvoy(t, s)
			}
		})
	}
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readFile(t, file)), string(got)); diff != "" {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, diff)
	}
}

// toYAML shows a snapshot as people read it: typed_configs opened, keys of
// certificates left out.
func toYAML(t *testing.T, s *Snapshot) []byte {
	t.Helper()
	shown := map[string]any{}
	for typeURL, resources := range s.types {
		_, kind, _ := strings.Cut(typeURL, "/")
		bodies := map[string]any{}
		for name, r := range resources {
			bodies[name] = toMap(t, r)
		}
		shown[kind] = bodies
	}
	out, err := yaml.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func toMap(t *testing.T, r *discoveryv3.Resource) map[string]any {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r.GetResource())
	if err != nil {
		t.Fatal(err)
	}
	var shown map[string]any
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	if certificate, ok := shown["tls_certificate"].(map[string]any); ok {
		certificate["private_key"] = "…"
	}
	return shown
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
