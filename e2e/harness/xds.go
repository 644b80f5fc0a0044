package harness

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

const (
	typePrefix = "type.googleapis.com/envoy."
	routeType  = typePrefix + "config.route.v3.RouteConfiguration"
)

// DiscoveryTypes are the types of resources that a control plane gives out.
var DiscoveryTypes = []string{
	typePrefix + "config.cluster.v3.Cluster", typePrefix + "extensions.transport_sockets.tls.v3.Secret",
	typePrefix + "config.listener.v3.Listener", routeType,
}

// EdgeRoutes are the routes that the control plane gives to an Envoy of the
// edge: Envoy's own dump hides what travels with them.
func (s *System) EdgeRoutes(t testing.TB) []*routev3.Route {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.Socket("xds"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(request *discoveryv3.DeltaDiscoveryRequest) {
		request.Node = &corev3.Node{Id: "edge-e2e", Cluster: envoy.EdgeGroup}
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
	}
	for _, typeURL := range DiscoveryTypes {
		send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}})
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			t.Fatalf("asking the control plane for routes: %v", err)
		}
		send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()})
		for _, resource := range response.GetResources() {
			if response.GetTypeUrl() != routeType || resource.GetName() != envoy.EdgeGroup {
				continue
			}
			routes := &routev3.RouteConfiguration{}
			if err := resource.GetResource().UnmarshalTo(routes); err != nil {
				t.Fatal(err)
			}
			return routes.GetVirtualHosts()[0].GetRoutes()
		}
	}
}

// CheckOf is what travels with a route to the authorizer: its signed rule, nil
// where the route has no Check. A route with neither is an error: it would
// inherit what is around it.
func CheckOf(t testing.TB, route *routev3.Route) (*rulev1.SignedRule, error) {
	t.Helper()
	packed := route.GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"]
	if packed == nil {
		return nil, fmt.Errorf("the route %s says nothing of its check", route.GetName())
	}
	settings := &authzv3.ExtAuthzPerRoute{}
	if err := packed.UnmarshalTo(settings); err != nil {
		return nil, err
	}
	if settings.GetDisabled() {
		return nil, nil
	}
	return UnpackRule(t, settings.GetCheckSettings().GetContextExtensions()[envoy.RuleExtension]), nil
}
