package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// enrolledAs is the identity that a service's sidecar has enrolled for.
func (m *mesh) enrolledAs(service string) kept { return kept(m.Sidecars[service].State) }

// asEdge is the identity that the edge has enrolled for.
func (m *mesh) asEdge() kept { return kept(filepath.Join(m.Dir, "data", "identity", "envoy")) }

// over is a connection to a part, with an enrolled identity.
func over(t *testing.T, address string, id serve.Source, peer string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(serve.ClientTLS(id, peer, time.Now))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

type discovery = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// configuration opens a stream at the control plane, and asks as a node of a
// group. Whoever is nobody there may not even get a connection.
func (m *mesh) configuration(t *testing.T, id serve.Source, group string) (discovery, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	conn := over(t, m.Config().Text("controlplane.listen"), id, envoy.ControlPlaneIdentity(trustDomain))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	stream.Send(&discoveryv3.DeltaDiscoveryRequest{ // Recv tells why it failed
		Node: &corev3.Node{Id: "e2e", Cluster: group}, TypeUrl: harness.DiscoveryTypes[0], ResourceNamesSubscribe: []string{"*"},
	})
	return stream, nil
}

// configured is configuration where it has to be given.
func (m *mesh) configured(t *testing.T, id serve.Source, group string) discovery {
	t.Helper()
	stream, err := m.configuration(t, id, group)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// firstOf is the first answer on a stream of its own.
func (m *mesh) firstOf(t *testing.T, id serve.Source, group string) error {
	t.Helper()
	stream, err := m.configuration(t, id, group)
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// held is what a node was sent: by type and name, the resource's bytes.
type held map[string]map[string]string

// names are those of a type, in any order.
func (h held) names(typeURL string) (names []string) {
	for name := range h[typeURL] {
		names = append(names, name)
	}
	return names
}

// take asks a stream for resources of every type by name and by wildcard, and
// takes what comes until a name that nobody has is answered, which happens last.
func take(t *testing.T, stream discovery, wanted held) held {
	t.Helper()
	got, over := held{}, map[string]bool{}
	for _, typeURL := range harness.DiscoveryTypes {
		got[typeURL] = map[string]string{}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typeURL, ResourceNamesSubscribe: append(wanted.names(typeURL), "*", "nobody's"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	for len(over) < len(harness.DiscoveryTypes) {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range response.GetResources() {
			got[response.GetTypeUrl()][r.GetName()] = string(r.GetResource().GetValue())
		}
		if slices.Contains(response.GetRemovedResources(), "nobody's") {
			over[response.GetTypeUrl()] = true
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// Every kind of resource of each node, tried by each other with the certificate
// that it enrolled for.
func TestMeshConfigurationIsOnesOwn(t *testing.T) {
	m := startMesh(t, harness.Options{})
	ids := map[string]kept{
		envoy.EdgeGroup:               m.asEdge(),
		envoy.ServiceGroup("orders"):  m.enrolledAs("orders"),
		envoy.ServiceGroup("profile"): m.enrolledAs("profile"),
	}
	own := map[string]held{}
	var mu sync.Mutex
	t.Run("own", func(t *testing.T) {
		for group, id := range ids {
			t.Run(group, func(t *testing.T) {
				t.Parallel()
				got := take(t, m.configured(t, id, group), nil)
				mu.Lock()
				defer mu.Unlock()
				own[group] = got
			})
		}
	})
	for _, typeURL := range harness.DiscoveryTypes {
		if !slices.ContainsFunc(sorted(own), func(group string) bool { return len(own[group][typeURL]) > 0 }) {
			t.Errorf("nobody has a %s: it proves nothing", typeURL)
		}
	}
	t.Run("others'", func(t *testing.T) {
		for thief, id := range ids {
			for owner := range own {
				if thief != owner {
					t.Run(thief+" of "+owner, func(t *testing.T) {
						t.Parallel()
						m.steal(t, id, thief, owner, own)
					})
				}
			}
		}
	})
	for group, id := range ids {
		if err := m.firstOf(t, id, group); err != nil {
			t.Errorf("%s gets nothing any more: %v", group, err)
		}
	}
	m.dumpsTellNoSecret(t)
}

// steal asks for another's resources, as oneself and as the other.
func (m *mesh) steal(t *testing.T, id serve.Source, thief, owner string, own map[string]held) {
	t.Helper()
	for typeURL, resources := range take(t, m.configured(t, id, thief), own[owner]) {
		for name, resource := range resources {
			if mine, ok := own[thief][typeURL][name]; !ok || mine != resource {
				t.Errorf("got %s %s", typeURL, name)
			}
		}
		if len(resources) != len(own[thief][typeURL]) {
			t.Errorf("got %d of its own %s, not %d", len(resources), typeURL, len(own[thief][typeURL]))
		}
	}
	err := m.firstOf(t, id, owner)
	if status.Code(err) != codes.PermissionDenied || strings.Contains(err.Error(), "spiffe://") {
		t.Errorf("claiming to be it: %v", err)
	}
}
