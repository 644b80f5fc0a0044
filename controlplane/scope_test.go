package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// startMeshServer is a control plane without Envoys, of the golden mesh.
func startMeshServer(t *testing.T, ids *identities, deny DenyList) *Server {
	t.Helper()
	dir := shortDir(t)
	config := Config{
		Listen: freeAddress(t), Identity: ids.of(t, "controlplane", envoy.ControlPlaneIdentity(trustDomain)), Authz: []string{"127.0.0.1:9500"},
		RuleKey: writeRuleKey(t, dir), Telemetry: freeAddress(t),
	}
	config.SetDefaults(dir)
	server, err := New(config, meshGateway(t), Deps{DenyList: deny})
	if err != nil {
		t.Fatal(err)
	}
	inBackground(t, server.Run)
	await(t, "the control plane", func() error {
		if missing := server.Missing(); len(missing) > 0 {
			return fmt.Errorf("%v", missing)
		}
		return nil
	})
	return server
}

func meshGateway(t *testing.T) Gateway {
	g := readGateway(t, string(readFile(t, "testdata/mesh.in.yaml")))
	g.TLS = TLS{Certificate: "testdata/edge.crt", Key: "testdata/edge.key"}
	return g
}

func node(service, id string) *corev3.Node {
	return &corev3.Node{Id: id, Cluster: envoy.ServiceGroup(service)}
}

func open(t *testing.T, server *Server, id serve.Identity) adsClient {
	t.Helper()
	stream, err := dial(t, server.config.Listen, id).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

type adsClient = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// Whatever a node asks for, and under whatever name, it gets what its own
// identity may have: every kind of resource, by wildcard and by name, from each
// group tried by each other.
func TestResourcesStayInTheirGroup(t *testing.T) {
	ids := newIdentities(t)
	server := startMeshServer(t, ids, nil)
	goals := server.goals()
	for thief, own := range goals {
		id := ids.of(t, strings.ReplaceAll(thief, "/", "-"), server.identityOf(thief))
		for owner, theirs := range goals {
			t.Run(thief+" of "+owner, func(t *testing.T) {
				t.Parallel()
				got := steal(t, open(t, server, id), thief, owner, theirs)
				for typeURL, resources := range got {
					for _, r := range resources {
						if mine := own.types[typeURL][r.GetName()]; mine == nil || !proto.Equal(mine.GetResource(), r.GetResource()) {
							t.Errorf("got %s %s", kindOf(typeURL), r.GetName())
						}
					}
				}
				if len(got[clusterType]) == 0 || len(got[listenerType]) == 0 || len(got[routeType]) == 0 {
					t.Errorf("its own did not come: %v", got)
				}
				if thief == owner {
					return
				}
				stream := open(t, server, id)
				send(t, stream, &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: owner + "-1", Cluster: owner}, TypeUrl: clusterType})
				if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
					t.Errorf("claiming to be it: %v", err)
				}
			})
		}
	}
}

// steal asks for another group's resources of every type, and takes what comes
// until made-up names are answered, which happens last.
func steal(t *testing.T, stream adsClient, thief, owner string, theirs *Snapshot) map[string][]*discoveryv3.Resource {
	t.Helper()
	for _, typeURL := range allTypes {
		// The first request of clusters and listeners is a wildcard without names.
		first := &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: owner + "-1", Cluster: thief}, TypeUrl: typeURL}
		if typeURL == secretType || typeURL == routeType {
			first.ResourceNamesSubscribe = sortedKeys(theirs.types[typeURL])
		}
		send(t, stream, first)
		// Later ones may name another node: it is not listened to.
		send(t, stream, &discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: owner + "-1", Cluster: owner}, TypeUrl: typeURL,
			ResourceNamesSubscribe: append(sortedKeys(theirs.types[typeURL]), "*", "edge", "service/site", "nobody's"),
		})
	}
	got, over := map[string][]*discoveryv3.Resource{}, map[string]bool{}
	for len(over) < len(allTypes) {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got[response.GetTypeUrl()] = append(got[response.GetTypeUrl()], response.GetResources()...)
		if slices.Contains(response.GetRemovedResources(), "nobody's") {
			over[response.GetTypeUrl()] = true
		}
		send(t, stream, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()})
	}
	return got
}

func send(t *testing.T, stream adsClient, r *discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
}

// A revoked identity's streams end at once, and no new one begins until it is
// forgiven.
func TestDeniedIdentityHasNoStreams(t *testing.T) {
	ids, deny := newIdentities(t), &denyList{changed: make(chan struct{})}
	server := startMeshServer(t, ids, deny)
	orders, profile := ids.of(t, "orders", envoy.ServiceIdentity(trustDomain, "orders")), ids.of(t, "profile", envoy.ServiceIdentity(trustDomain, "profile"))
	stream, other := open(t, server, orders), open(t, server, profile)
	for s, n := range map[adsClient]*corev3.Node{stream: node("orders", "o"), other: node("profile", "p")} {
		send(t, s, &discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: clusterType})
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	deny.set(envoy.ServiceIdentity(trustDomain, "orders"))
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("its stream: %v", err)
	}
	if _, code := first(t, dial(t, server.config.Listen, orders), node("orders", "o")); code != codes.PermissionDenied {
		t.Errorf("a new stream: %v", code)
	}
	if nodes := server.Status().Groups["service/profile"].Nodes; len(nodes) != 1 {
		t.Errorf("another's streams: %v", nodes)
	}
	deny.set()
	await(t, "forgiveness", func() error {
		if _, code := first(t, dial(t, server.config.Listen, orders), node("orders", "o")); code != codes.OK {
			return fmt.Errorf("%v", code)
		}
		return nil
	})
}

// A control plane that starts knows the revoked from the first moment.
func TestDeniedFromTheStart(t *testing.T) {
	ids := newIdentities(t)
	deny := &denyList{ids: []string{envoy.ServiceIdentity(trustDomain, "orders")}, changed: make(chan struct{})}
	server := startMeshServer(t, ids, deny)
	if _, code := first(t, dial(t, server.config.Listen, ids.of(t, "orders", deny.ids[0])), node("orders", "o")); code != codes.PermissionDenied {
		t.Errorf("%v", code)
	}
	for name, s := range server.goals() {
		if !slices.Equal(s.in.Denied, deny.ids) {
			t.Errorf("%s is built with %v denied", name, s.in.Denied)
		}
	}
}

// A service that is in the configuration no longer loses its group.
func TestRemovedServiceHasNoStreams(t *testing.T) {
	ids := newIdentities(t)
	server := startMeshServer(t, ids, nil)
	id := ids.of(t, "reports", envoy.ServiceIdentity(trustDomain, "reports"))
	stream := open(t, server, id)
	send(t, stream, &discoveryv3.DeltaDiscoveryRequest{Node: node("reports", "r"), TypeUrl: clusterType})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	g := meshGateway(t)
	delete(g.Services, "reports")
	for _, name := range []string{"orders", "profile"} {
		s := g.Services[name]
		s.AllowFrom = slices.DeleteFunc(s.AllowFrom, func(caller string) bool { return caller == "reports" })
		g.Services[name] = s
	}
	if err := server.Apply(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("its stream: %v", err)
	}
	if _, code := first(t, dial(t, server.config.Listen, id), node("reports", "r")); code != codes.PermissionDenied {
		t.Errorf("a new stream: %v", code)
	}
	if _, there := server.Status().Groups["service/reports"]; there {
		t.Error("the group is in the state")
	}
}

// What one identity may hold open, and what one Envoy may ask for, has bounds;
// the state shows the proved identity whatever ids the nodes give themselves.
func TestStreamsAreBounded(t *testing.T) {
	ids := newIdentities(t)
	server := startMeshServer(t, ids, nil)
	id := ids.of(t, "orders", envoy.ServiceIdentity(trustDomain, "orders"))
	for _, name := range []string{"edge-1", "b"} {
		if _, code := first(t, dial(t, server.config.Listen, id), node("orders", name)); code != codes.OK {
			t.Fatal(code)
		}
	}
	groups := server.Status().Groups
	if g := groups["service/orders"]; g.Identity != envoy.ServiceIdentity(trustDomain, "orders") || len(g.Nodes) != 2 || len(groups["edge"].Nodes) != 0 {
		t.Errorf("%+v", groups)
	}
	g := server.group("service/orders")
	for len(g.streams) < maxStreams {
		if _, err := g.join("filler"); err != nil {
			t.Fatal(err)
		}
	}
	if _, code := first(t, dial(t, server.config.Listen, id), node("orders", "c")); code != codes.ResourceExhausted {
		t.Errorf("a stream more: %v", code)
	}
	if _, code := first(t, dial(t, server.config.Listen, ids.of(t, "profile", envoy.ServiceIdentity(trustDomain, "profile"))), node("profile", "p")); code != codes.OK {
		t.Errorf("another identity's: %v", code)
	}
	reports := ids.of(t, "reports", envoy.ServiceIdentity(trustDomain, "reports"))
	if _, code := first(t, dial(t, server.config.Listen, reports), node("reports", strings.Repeat("x", maxNodeID+1))); code != codes.PermissionDenied {
		t.Errorf("a long id: %v", code)
	}
	stream := open(t, server, reports)
	names := make([]string, maxSubscribed+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	send(t, stream, &discoveryv3.DeltaDiscoveryRequest{Node: node("reports", "r"), TypeUrl: routeType, ResourceNamesSubscribe: names})
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too many names: %v", err)
	}
}
