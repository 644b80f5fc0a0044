package controlplane

import (
	"net"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// Names of listeners and of their route configurations.
const (
	edgeListener     = "edge"
	redirectListener = "redirect"
	edgeRoutes       = "edge"
	redirectRoutes   = "redirect"
)

// edgeListener is HTTPS. What routes demand is not in it: its edits drain
// connections.
func (in *Inputs) edgeListener() *listenerv3.Listener {
	edge := listen(edgeListener, in.Gateway.Listen, in.edgeManager(edgeListener, checkFilter()), edgeTLS())
	in.addMutual(edge)
	return in.proxied(edge)
}

func (in *Inputs) edgeManager(stats string, check *authzv3.ExtAuthz) *hcmv3.HttpConnectionManager {
	filters := slices.Concat(
		in.corsFilters(),
		[]*hcmv3.HttpFilter{onDemand(limitHeaders, headerFilter())},
		networkFilters(),
		in.addressLimits(),
		[]*hcmv3.HttpFilter{filter(extAuthz, check)},
		in.callerLimits(),
		in.sharedFilter(),
		in.watchFilters(),
		[]*hcmv3.HttpFilter{
			filter(cookieFilter, cookieStrip()),
			filter(trailerFilter, stripTrailers()),
			filter(routerFilter, router()),
		},
	)
	manager := connectionManager(stats, edgeRoutes, filters...)
	in.clientAddress(manager)
	manager.LocalReplyConfig = problems("This address is not permitted here.")
	return manager
}

// redirectListener is plain HTTP, which only ever redirects to HTTPS.
func (in *Inputs) redirectListener() *listenerv3.Listener {
	manager := connectionManager(redirectListener, redirectRoutes, append(networkFilters(), filter(routerFilter, router()))...)
	in.clientAddress(manager)
	manager.LocalReplyConfig = problems("This address is not permitted here.")
	return in.proxied(listen(redirectListener, in.Gateway.RedirectListen, manager, nil))
}

func listen(name, address string, manager *hcmv3.HttpConnectionManager, tls *corev3.TransportSocket) *listenerv3.Listener {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return &listenerv3.Listener{
		Name:                          name,
		Address:                       socket(host, uint32(n)),
		PerConnectionBufferLimitBytes: number(bufferLimit),
		FilterChains:                  []*listenerv3.FilterChain{chainOf(manager, tls)},
	}
}

func chainOf(manager *hcmv3.HttpConnectionManager, tls *corev3.TransportSocket) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		TransportSocket:               tls,
		TransportSocketConnectTimeout: seconds(handshakeTimeout),
		Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
		}},
	}
}

func filter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}
