package controlplane

import (
	"regexp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

const (
	// peerHeader is where Envoy says whose certificate the peer has shown; what a
	// peer itself writes there is gone before.
	peerHeader = "x-forwarded-client-cert"
	anyRoute   = gatehousePrefix + "any"
	// fromEdge begins the names of routes that a sidecar has from the edge's.
	fromEdge = "edge/"
)

// inboundListener is mutual TLS for whoever has a certificate of the trust
// domain. Who of them may call is in the routes, so that an edit and a
// revocation count for connections that stand, and drain none.
func (in *Inputs) inboundListener(name string) *listenerv3.Listener {
	manager := sidecarManager(inboundListener,
		filter(peersFilter, denyAll()),
		filter(extAuthz, checkFilter(envoy.AssertionHeader)),
		watching(envoy.PeerAttribute),
		filter(trailerFilter, stripTrailers()),
		filter(routerFilter, router()),
	)
	manager.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{earlyStrip(envoy.NarrowHeader)}
	manager.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	manager.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	tls, err := envoy.MutualTLSServer()
	if err != nil {
		panic(packError{err})
	}
	return listen(inboundListener, in.Gateway.Services[name].Sidecar.Listen, manager, tls)
}

// inboundRoutes let callers through to the service. Its own routes, where it
// has some, are all there is. Otherwise an assertion for this service is enough,
// and from the edge also what the edge lets through without one.
func (in *Inputs) inboundRoutes(name string) *routev3.RouteConfiguration {
	callers, own := in.callers(name), in.Gateway.Services[name].routes(name)
	routes := refuseAmbiguous()
	switch {
	case len(callers) == 0: // nobody is let in, and no rule is for nobody
	case len(own) > 0:
		for i := range own {
			routes = append(routes, in.inboundRoute(&own[i], callers))
		}
	default:
		routes = append(routes, in.routesFromEdge(name)...)
		routes = append(routes, in.inboundRoute(&Route{ID: anyRoute, Path: "/**", Service: name}, callers))
	}
	routes = append(routes, refuse(unknownRoute, 404, "Not Found", everything()))
	return &routev3.RouteConfiguration{
		Name: inboundListener,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "all", Domains: []string{"*"}, Routes: routes,
			TypedPerFilterConfig: map[string]*anypb.Any{peersFilter: in.admit(callers)},
		}},
		RequestHeadersToRemove:  []string{peerHeader},
		ResponseHeadersToRemove: []string{"server", "x-powered-by"},
	}
}

// callers are the SPIFFE ids that may call a service: those of allow_from, and
// the edge's where a route leads here.
func (in *Inputs) callers(name string) (ids []string) {
	if len(in.Gateway.routesTo(name)) > 0 {
		ids = append(ids, envoy.EdgeIdentity(in.TrustDomain))
	}
	for _, caller := range in.Gateway.Services[name].AllowFrom {
		ids = append(ids, envoy.ServiceIdentity(in.TrustDomain, caller))
	}
	return ordered(ids)
}

func (in *Inputs) inboundRoute(r *Route, callers []string) *routev3.Route {
	pattern, err := parsePath(r.Path)
	if err != nil {
		panic(packError{err})
	}
	route := &routev3.Route{
		Name:                 r.ID,
		Match:                match(pattern, r.Methods),
		Action:               forward(serviceCluster(r.Service), in.Gateway.timeoutOf(r.Service)),
		TypedPerFilterConfig: map[string]*anypb.Any{extAuthz: unchecked()},
	}
	if r.Public {
		// Nobody has verified it, so nobody shall rely on it.
		route.RequestHeadersToRemove = []string{envoy.AssertionHeader}
	} else {
		route.TypedPerFilterConfig[extAuthz] = checked(in.Signer.sign(inboundRule(&in.Gateway, r, in.TrustDomain, callers)))
	}
	watched(route, in.Gateway.timeoutOf(r.Service), "")
	if !r.ForwardCredentials {
		route.RequestHeadersToRemove = slices.Concat(route.RequestHeadersToRemove, clientCredentials)
	}
	return route
}

// routesFromEdge are the edge's routes to a service, in their order, as far as
// some of them differ from demanding an assertion: a public one has none to
// show, and credentials that are forwarded must pass here too. They match what
// comes from the edge alone: to others its public paths are no more open than
// the rest.
func (in *Inputs) routesFromEdge(name string) (routes []*routev3.Route) {
	edge := envoy.EdgeIdentity(in.TrustDomain)
	all := in.Gateway.routesTo(name)
	last := 0
	for i, r := range all {
		if r.Public || r.ForwardCredentials {
			last = i + 1
		}
	}
	for _, r := range all[:last] {
		route := in.inboundRoute(&Route{
			ID: fromEdge + r.ID, Path: r.Path, Methods: r.Methods, Service: name, Public: r.Public, ForwardCredentials: r.ForwardCredentials,
		}, []string{edge})
		route.Match.Headers = append(route.Match.Headers, matchPeer(edge))
		// The header has chosen the route; the certificate itself decides.
		route.TypedPerFilterConfig[peersFilter] = in.admit([]string{edge})
		routes = append(routes, route)
	}
	return routes
}

// matchPeer matches requests of a peer by what Envoy wrote of its certificate.
func matchPeer(id string) *routev3.HeaderMatcher {
	text := "(.*;)?URI=" + regexp.QuoteMeta(id) + "(;.*)?"
	return &routev3.HeaderMatcher{Name: peerHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: text}}},
	}}
}

// admit lets peers with these SPIFFE ids through that were not revoked.
func (in *Inputs) admit(callers []string) *anypb.Any {
	return pack(allowPeers(slices.DeleteFunc(slices.Clone(callers), in.denied)))
}
