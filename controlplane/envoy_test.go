package controlplane

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// realEnvoy is the Envoy that tests use.
func realEnvoy(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		return path
	}
	path, err := filepath.Abs("../.tools/envoy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("no Envoy to test with: run `make tools`, or set $ENVOY")
	}
	return path
}

// acceptedByEnvoy has the real Envoy validate a snapshot, as a static bootstrap:
// everything fetched by ADS put in its place.
func acceptedByEnvoy(t *testing.T, s *Snapshot) {
	t.Helper()
	agent := newCluster(envoy.AgentCluster, &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP2()})
	agent.LoadAssignment.Endpoints = endpoints(&corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/agent.sock"}}})
	static := &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{agent}}
	for _, r := range s.types[clusterType] {
		cluster := new(clusterv3.Cluster)
		decode(t, r.GetResource(), cluster)
		static.Clusters = append(static.Clusters, cluster)
	}
	for _, r := range s.types[secretType] {
		secret := new(tlsv3.Secret)
		decode(t, r.GetResource(), secret)
		static.Secrets = append(static.Secrets, secret)
	}
	for _, r := range s.types[listenerType] {
		listener := new(listenerv3.Listener)
		decode(t, r.GetResource(), listener)
		static.Listeners = append(static.Listeners, inlined(t, s, listener))
	}
	validate(t, &bootstrapv3.Bootstrap{Node: &corev3.Node{Id: "edge-1", Cluster: envoy.EdgeGroup}, StaticResources: static})
}

// inlined is a listener whose route configuration is in it and whose secrets
// of ADS are static.
func inlined(t *testing.T, s *Snapshot, l *listenerv3.Listener) *listenerv3.Listener {
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			manager := new(hcmv3.HttpConnectionManager)
			decode(t, f.GetTypedConfig(), manager)
			routes := new(routev3.RouteConfiguration)
			decode(t, s.types[routeType][manager.GetRds().GetRouteConfigName()].GetResource(), routes)
			manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)}
		}
		if chain.GetTransportSocket() == nil {
			continue
		}
		context := new(tlsv3.DownstreamTlsContext)
		decode(t, chain.GetTransportSocket().GetTypedConfig(), context)
		for _, sds := range context.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
			if overADS(sds) {
				sds.SdsConfig = nil
			}
		}
		chain.TransportSocket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: pack(context)}
	}
	return l
}

func validate(t *testing.T, bootstrap *bootstrapv3.Bootstrap) {
	t.Helper()
	text, err := protojson.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(realEnvoy(t), "--mode", "validate", "--log-level", "warning", "-c", file).CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses it: %v\n%s", err, out)
	}
}

func decode(t *testing.T, packed *anypb.Any, into proto.Message) {
	t.Helper()
	if err := packed.UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
}
