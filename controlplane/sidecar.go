package controlplane

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"gatehouse.dev/gatehouse/envoy"
)

// Names of a sidecar's listeners and of their route configurations.
const (
	inboundListener  = "inbound"
	outboundListener = "outbound"
)

// sidecar is all that the Envoy beside a service needs: the way in to the
// service, and the ways out to those that it may call.
func (in *Inputs) sidecar(name string) parts {
	p, service := parts{}, in.Gateway.Services[name]
	group := envoy.ServiceGroup(name)
	clusters := map[string]*clusterv3.Cluster{authzCluster: in.authorizers(group), watchCluster: in.watchers(group)}
	if service.inbound() {
		clusters[serviceCluster(name)] = in.itself(name)
		p.add(listenerType, inboundListener, in.inboundListener(name))
		p.add(routeType, inboundListener, in.inboundRoutes(name))
	}
	if service.outbound() {
		for _, target := range in.Gateway.callable(name) {
			in.addService(clusters, target)
		}
		p.add(listenerType, outboundListener, in.outboundListener(name))
		p.add(routeType, outboundListener, in.outboundRoutes(name))
	}
	for cluster, c := range clusters {
		p.add(clusterType, cluster, c)
	}
	return p
}

// sidecarManager is how a sidecar speaks HTTP: as the edge does, for a peer is
// believed no more than a client. Only the assertion, which proves itself, is
// not stripped, as the two listeners say.
func sidecarManager(name string, filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	m := connectionManager(name, name, filters...)
	m.PreserveExternalRequestId = true // one id along the whole chain
	m.AlwaysSetRequestIdInResponse = false
	m.LocalReplyConfig = problems("This caller is not permitted here.")
	return m
}

// denied tells whether a workload was revoked.
func (in *Inputs) denied(id string) bool { return slices.Contains(in.Denied, id) }
