package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	// XDSCluster is the bootstrap's cluster of the control plane.
	XDSCluster = "xds"

	// maxConnections bounds the clients' connections to one Envoy.
	maxConnections = 50_000
	httpOptions    = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// Render is the bootstrap of an Envoy, as JSON: how it finds the control plane
// and proves itself; everything else comes over delta ADS.
func Render(c Config) ([]byte, error) {
	bootstrap, err := c.bootstrap()
	if err != nil {
		return nil, err
	}
	if err := bootstrap.ValidateAll(); err != nil {
		return nil, fmt.Errorf("rendering the bootstrap: %w", err)
	}
	compact, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("rendering the bootstrap: %w", err)
	}
	// protojson varies its white space on purpose.
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("rendering the bootstrap: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func (c Config) bootstrap() (*bootstrapv3.Bootstrap, error) {
	admin, err := address(c.Admin)
	if err != nil {
		return nil, fmt.Errorf("reading envoy.admin: %w", err)
	}
	if pipe := admin.GetPipe(); pipe != nil {
		pipe.Mode = 0o600
	}
	xds, err := c.xdsCluster()
	if err != nil {
		return nil, err
	}
	overload, err := overloadManager()
	if err != nil {
		return nil, err
	}
	runtime, err := runtimeLayer()
	if err != nil {
		return nil, err
	}
	agent, err := c.agentCluster()
	if err != nil {
		return nil, err
	}
	return &bootstrapv3.Bootstrap{
		Node:             &corev3.Node{Id: c.Node, Cluster: c.Group},
		Admin:            &bootstrapv3.Admin{Address: admin},
		DynamicResources: dynamicResources(),
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xds, agent}},
		OverloadManager:  overload,
		LayeredRuntime:   runtime,
	}, nil
}

// dynamicResources asks for everything over one delta stream, so that changes
// come in the order in which the control plane sends them.
func dynamicResources() *bootstrapv3.Bootstrap_DynamicResources {
	ads := &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
	return &bootstrapv3.Bootstrap_DynamicResources{
		CdsConfig: ads,
		LdsConfig: ads,
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: XDSCluster,
					RetryPolicy: quickRetry(),
				}},
			}},
			// A refused resource must not become a loop of requests.
			RateLimitSettings: &corev3.RateLimitSettings{
				MaxTokens: wrapperspb.UInt32(100), FillRate: wrapperspb.Double(10),
			},
			SetNodeOnFirstMessageOnly: true,
		},
	}
}

// xdsCluster reaches the control plane.
func (c Config) xdsCluster() (*clusterv3.Cluster, error) {
	cluster, err := grpcCluster(XDSCluster, c.XDS)
	if err != nil {
		return nil, fmt.Errorf("reading envoy.xds: %w", err)
	}
	if _, unix := serve.UnixPath(c.XDS); !unix {
		cluster.TransportSocket, err = MutualTLS(c.XDSIdentity)
	}
	return cluster, err
}

// agentCluster reaches the agent in the process that started the Envoy.
func (c Config) agentCluster() (*clusterv3.Cluster, error) {
	cluster, err := grpcCluster(AgentCluster, c.Agent)
	if err != nil {
		return nil, fmt.Errorf("reading envoy.agent: %w", err)
	}
	return cluster, nil
}

// grpcCluster reaches a gRPC server; pings find one that went silently.
func grpcCluster(name, at string) (*clusterv3.Cluster, error) {
	endpoint, err := address(at)
	if err != nil {
		return nil, err
	}
	http2, err := deterministic(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(5 * time.Second)},
			}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("rendering the cluster %s: %w", name, err)
	}
	kind := clusterv3.Cluster_STRICT_DNS
	if endpoint.GetPipe() != nil {
		kind = clusterv3.Cluster_STATIC
	}
	return &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:                durationpb.New(time.Second),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: http2},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: endpoint}},
			}}}},
		},
	}, nil
}

// overloadManager bounds the clients' connections, which are unbounded by
// default.
func overloadManager() (*overloadv3.OverloadManager, error) {
	limit, err := deterministic(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections})
	if err != nil {
		return nil, fmt.Errorf("rendering the overload manager: %w", err)
	}
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name:       "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: limit},
	}}}, nil
}

// runtimeLayer bounds the programs of regular expressions: their text comes
// from route paths.
func runtimeLayer() (*bootstrapv3.LayeredRuntime, error) {
	layer, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": 1000})
	if err != nil {
		return nil, fmt.Errorf("rendering the runtime: %w", err)
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name:           "static",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: layer},
	}}}, nil
}

// address is Envoy's form of "unix:PATH" or "host:port".
func address(text string) (*corev3.Address, error) {
	if path, ok := serve.UnixPath(text); ok {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("%q is neither unix:PATH nor HOST:PORT: %w", text, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q has no port: %w", text, err)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
	}}}, nil
}
