package controlplane

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	issuerCluster = "issuer"
	// connectTimeout bounds the connection to a back end, its TLS included.
	connectTimeout = 5 * time.Second
	// upstreamIdle is below the idle time of common servers (60 s and more), so
	// that Envoy, not they, closes idle connections: a request sent into a
	// closing connection would be lost.
	upstreamIdle = 30 * time.Second
	// bufferLimit bounds what Envoy holds of each connection, in bytes.
	bufferLimit = 32 << 10
	// maxPerService bounds connections, requests under way and waiting ones, each.
	maxPerService = 4096
)

// serviceCluster is a service's name in Envoy: stable, so that a new URL is an
// update and not another cluster.
func serviceCluster(service string) string { return "service/" + service }

func (in *Inputs) clusters() map[string]*clusterv3.Cluster {
	all := map[string]*clusterv3.Cluster{authzCluster: in.authorizers(envoy.EdgeGroup)}
	if len(in.RateLimit) > 0 {
		all[rateLimitCluster] = in.limiters()
	}
	if in.Gateway.HasSidecars() {
		all[watchCluster] = in.watchers(envoy.EdgeGroup)
	}
	if in.Gateway.hasIssuer() {
		all[issuerCluster] = in.toIssuer()
	}
	for name, service := range in.Gateway.Services {
		// Others reach what has a sidecar only where they have a route to it.
		if service.Sidecar == nil || len(in.Gateway.routesTo(name)) > 0 {
			in.addService(all, name)
		}
	}
	return all
}

// toIssuer leads to the issuer, over its socket where it has one.
func (in *Inputs) toIssuer() *clusterv3.Cluster {
	path, unix := serve.UnixPath(in.Gateway.Issuer.URL)
	if !unix {
		return backendCluster(issuerCluster, in.Gateway.Issuer.URL, nil)
	}
	cluster := newCluster(issuerCluster, httpVersion(backend{}))
	cluster.LoadAssignment.Endpoints = endpoints(pipe(path))
	return cluster
}

// toSidecar begins the names of the clusters that lead to sidecars.
const toSidecar = "sidecar/"

// wayTo is the cluster by which others reach a service. The way to its sidecar
// has another name, so that a route changes over together with its rule: the
// one leads to a demand for the assertion that the other makes.
func (g *Gateway) wayTo(service string) string {
	if g.Services[service].inbound() {
		return toSidecar + service
	}
	return serviceCluster(service)
}

// addService adds the way to a service, unless the service was revoked: without
// its cluster the connections to it end as well.
func (in *Inputs) addService(all map[string]*clusterv3.Cluster, name string) {
	if !in.denied(envoy.ServiceIdentity(in.TrustDomain, name)) {
		all[in.Gateway.wayTo(name)] = in.toService(name)
	}
}

// toService leads to a service from another machine's point of view: to its
// sidecar, else to itself.
func (in *Inputs) toService(name string) *clusterv3.Cluster {
	service := in.Gateway.Services[name]
	if !service.inbound() {
		return in.itself(name)
	}
	at, err := splitHostPort(service.Sidecar.Address)
	if err != nil {
		panic(packError{err})
	}
	cluster := newCluster(in.Gateway.wayTo(name), httpVersion(backend{http2: true}))
	leadTo(cluster, at.host, at.port)
	if cluster.TransportSocket, err = envoy.MutualTLS(envoy.ServiceIdentity(in.TrustDomain, name)); err != nil {
		panic(packError{err})
	}
	return cluster
}

// itself leads to where a service listens, without its sidecar.
func (in *Inputs) itself(name string) *clusterv3.Cluster {
	return backendCluster(serviceCluster(name), in.Gateway.Services[name].URL, in.Authorities[name])
}

// backendCluster leads to a back end; Validate has parsed the URL before.
func backendCluster(name, url string, authorities []byte) *clusterv3.Cluster {
	b, err := parseBackend(url)
	if err != nil {
		panic(packError{err})
	}
	cluster := newCluster(name, httpVersion(b))
	leadTo(cluster, b.host, b.port)
	if b.tls {
		cluster.TransportSocket = serviceTLS(b, authorities)
	}
	return cluster
}

func leadTo(cluster *clusterv3.Cluster, host string, port uint32) {
	cluster.LoadAssignment.Endpoints = endpoints(socket(host, port))
	if (backend{host: host}).isName() {
		cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		cluster.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
}

func newCluster(name string, protocol *httpv3.HttpProtocolOptions) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                seconds(connectTimeout),
		PerConnectionBufferLimitBytes: number(bufferLimit),
		LoadAssignment:                &endpointv3.ClusterLoadAssignment{ClusterName: name},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: number(maxPerService), MaxPendingRequests: number(maxPerService), MaxRequests: number(maxPerService),
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(protocol),
		},
	}
}

// httpVersion is HTTP/1.1 without TLS, HTTP/2 for h2c, and what ALPN agrees on
// for https.
func httpVersion(b backend) *httpv3.HttpProtocolOptions {
	options := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(upstreamIdle)}}
	switch {
	case b.tls:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{Http2ProtocolOptions: http2()}}
	case b.http2:
		options.UpstreamProtocolOptions = explicitHTTP2()
	default:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}}
	}
	return options
}

func explicitHTTP2() *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2()},
	}}
}

// http2 bounds what a peer may hold open and make us buffer.
func http2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        number(100),
		InitialStreamWindowSize:     number(64 << 10),
		InitialConnectionWindowSize: number(1 << 20),
	}
}

func endpoints(addresses ...*corev3.Address) []*endpointv3.LocalityLbEndpoints {
	hosts := make([]*endpointv3.LbEndpoint, len(addresses))
	for i, a := range addresses {
		hosts[i] = &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}}}
	}
	return []*endpointv3.LocalityLbEndpoints{{LbEndpoints: hosts}}
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
