package controlplane

import (
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// identities makes certificates of one authority for SPIFFE ids.
type identities struct {
	dir       string
	authority *ca.Authority
}

func newIdentities(t *testing.T) *identities {
	t.Helper()
	dir := t.TempDir()
	authority, err := ca.Open(filepath.Join(dir, "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &identities{dir: dir, authority: authority}
}

func (i *identities) of(t *testing.T, name, spiffe string) serve.Identity {
	t.Helper()
	crt, key := filepath.Join(i.dir, name+".crt"), filepath.Join(i.dir, name+".key")
	if _, err := i.authority.Keep(crt, key, ca.Subject{SPIFFE: spiffe}); err != nil {
		t.Fatal(err)
	}
	return serve.Identity{Certificate: conf.Path(crt), Key: conf.Path(key), CA: conf.Path(filepath.Join(i.dir, "ca", "ca.crt"))}
}

// startServer runs a control plane without an Envoy.
func startServer(t *testing.T, config Config) *Server {
	t.Helper()
	dir := shortDir(t)
	config.RuleKey, config.Telemetry = writeRuleKey(t, dir), freeAddress(t)
	config.SetDefaults(dir)
	g := readGateway(t, "{}")
	g.TLS = TLS{Certificate: "testdata/edge.crt", Key: "testdata/edge.key"}
	server, err := New(config, g, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	inBackground(t, server.Run)
	await(t, "the control plane", func() error {
		if missing := server.Missing(); len(missing) > 0 {
			return status.Error(codes.Unavailable, missing[0])
		}
		return nil
	})
	return server
}

func dial(t *testing.T, address string, id serve.Identity) discoveryv3.AggregatedDiscoveryServiceClient {
	t.Helper()
	credentials, err := serve.DialCredentials(address, id, envoy.ControlPlaneIdentity("gatehouse.local"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// first asks for clusters as a node and returns what comes first.
func first(t *testing.T, client discoveryv3.AggregatedDiscoveryServiceClient, node *corev3.Node) (*discoveryv3.DeltaDiscoveryResponse, codes.Code) {
	t.Helper()
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err == nil {
		err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: clusterType})
	}
	if err != nil {
		return nil, status.Code(err)
	}
	response, err := stream.Recv()
	return response, status.Code(err)
}

// Only the node group's own identity gets its configuration.
func TestOnlyTheGroupsIdentityIsServed(t *testing.T) {
	ids := newIdentities(t)
	server := startServer(t, Config{Listen: freeAddress(t), Identity: ids.of(t, "controlplane", "spiffe://gatehouse.local/controlplane"), Authz: []string{"127.0.0.1:9500"}})
	edge := &corev3.Node{Id: "edge-1", Cluster: "edge"}
	for name, row := range map[string]struct {
		spiffe string
		node   *corev3.Node
		want   codes.Code
	}{
		"the edge":              {"spiffe://gatehouse.local/gateway/edge", edge, codes.OK},
		"a service":             {"spiffe://gatehouse.local/service/orders", edge, codes.PermissionDenied},
		"the authorizer":        {"spiffe://gatehouse.local/authz", edge, codes.PermissionDenied},
		"another trust domain":  {"spiffe://other.local/gateway/edge", edge, codes.Unavailable}, // no handshake
		"an id below the edge":  {"spiffe://gatehouse.local/gateway/edge/x", edge, codes.PermissionDenied},
		"an unknown node group": {"spiffe://gatehouse.local/gateway/edge", &corev3.Node{Id: "x", Cluster: "sidecar"}, codes.PermissionDenied},
		"a node without an id":  {"spiffe://gatehouse.local/gateway/edge", &corev3.Node{Cluster: "edge"}, codes.PermissionDenied},
		"no node":               {"spiffe://gatehouse.local/gateway/edge", nil, codes.PermissionDenied},
	} {
		response, code := first(t, dial(t, server.config.Listen, ids.of(t, name, row.spiffe)), row.node)
		if code != row.want || (code == codes.OK) != (len(response.GetResources()) > 0) {
			t.Errorf("%s: %v with %d resources, want %v", name, code, len(response.GetResources()), row.want)
		}
	}
}

// The state-of-the-world protocol is refused.
func TestDeltaOnly(t *testing.T) {
	server := startServer(t, Config{})
	stream, err := dial(t, server.config.Listen, serve.Identity{}).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("state of the world: %v", err)
	}
}

// A node is in the state as long as one of its streams is there.
func TestNodesComeAndGo(t *testing.T) {
	server := startServer(t, Config{})
	nodes := func(want int) {
		t.Helper()
		await(t, "the nodes", func() error {
			if s := server.Status().Groups["edge"]; len(s.Nodes) != want {
				return status.Errorf(codes.Unknown, "%d nodes, want %d", len(s.Nodes), want)
			}
			return nil
		})
	}
	for _, id := range []string{"edge-1", "edge-2"} {
		first(t, dial(t, server.config.Listen, serve.Identity{}), &corev3.Node{Id: id, Cluster: "edge"})
	}
	nodes(2)
	conn := dial(t, server.config.Listen, serve.Identity{})
	stream, err := conn.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "edge-3", Cluster: "edge"}, TypeUrl: clusterType}); err != nil {
		t.Fatal(err)
	}
	nodes(3)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	nodes(2)
}

// Everything over mutual TLS: Envoy fetches its configuration and asks the
// authorizer with its own certificate.
func TestMutualTLSEndToEnd(t *testing.T) {
	ids, orders := newIdentities(t), startService(t, "orders")
	r := newRig(t, renaming(orders.URL, 0), func(r *rig, e *envoyConfig) {
		r.authz.stop()
		r.authz = startStubAuthzTLS(t, freeAddress(t), ids.of(t, "authz", "spiffe://gatehouse.local/authz"))
		r.config.Listen, r.config.Authz = freeAddress(t), []string{r.authz.address}
		r.config.Identity = ids.of(t, "controlplane", "spiffe://gatehouse.local/controlplane")
		e.XDS, e.Identity = r.config.Listen, ids.of(t, "edge", "spiffe://gatehouse.local/gateway/edge")
	})
	if status, body := r.get(t, "/orders", "Authorization", bearer); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if r.authz.lastCaller() != "spiffe://gatehouse.local/gateway/edge" {
		t.Errorf("the authorizer was asked by %q", r.authz.lastCaller())
	}
	// An authorizer with another identity is not asked.
	address := r.authz.address
	r.authz.stop()
	impostor := startStubAuthzTLS(t, address, ids.of(t, "impostor", "spiffe://gatehouse.local/service/orders"))
	if status, _ := r.get(t, "/orders", "Authorization", bearer); status != 503 || impostor.last() != nil {
		t.Errorf("with an impostor: %d", status)
	}
}
