package controlplane

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// outboundRoute is the name of every route by which a service calls another.
const outboundRoute = gatehousePrefix + "outbound"

// outboundListener is where a service calls others: HTTP/1.1, or HTTP/2 without
// TLS, on loopback.
func (in *Inputs) outboundListener(name string) *listenerv3.Listener {
	manager := sidecarManager(outboundListener,
		filter(extAuthz, checkFilter(envoy.AssertionHeader, envoy.NarrowHeader)),
		watching(),
		filter(trailerFilter, stripTrailers()),
		filter(routerFilter, router()),
	)
	manager.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{earlyStrip()}
	return listen(outboundListener, in.Gateway.Services[name].Sidecar.Outbound, manager, nil)
}

// outboundRoutes choose the service by the request's host, and have the
// authorizer make the assertion for it.
func (in *Inputs) outboundRoutes(name string) *routev3.RouteConfiguration {
	config := &routev3.RouteConfiguration{Name: outboundListener, ResponseHeadersToRemove: []string{"server", "x-powered-by"}}
	for _, target := range in.Gateway.callable(name) {
		config.VirtualHosts = append(config.VirtualHosts, &routev3.VirtualHost{
			Name: target, Domains: []string{target}, // without a port: the manager strips it
			Routes: append(refuseAmbiguous(), in.outboundRoute(name, target)),
		})
	}
	config.VirtualHosts = append(config.VirtualHosts, &routev3.VirtualHost{
		Name: "others", Domains: []string{"*"},
		Routes: []*routev3.Route{refuse(unknownRoute, 404, "Not Found", everything())},
	})
	return config
}

func (in *Inputs) outboundRoute(name, target string) *routev3.Route {
	id := envoy.ServiceIdentity(in.TrustDomain, target)
	if in.denied(id) {
		return refuse(outboundRoute, 503, "Service Unavailable", everything())
	}
	route := &routev3.Route{
		Name:                   outboundRoute,
		Match:                  everything(),
		Action:                 forward(in.Gateway.wayTo(target), in.Gateway.timeoutOf(target)),
		RequestHeadersToRemove: append([]string{envoy.NarrowHeader}, clientCredentials...),
		TypedPerFilterConfig: map[string]*anypb.Any{
			extAuthz: checked(in.Signer.sign(outboundRule(&in.Gateway, name, target, in.TrustDomain))),
		},
	}
	watched(route, in.Gateway.timeoutOf(target), id)
	return route
}
