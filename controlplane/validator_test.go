package controlplane

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// Each mistake that a change of the generator could make is found before it is
// published.
func TestValidatorFinds(t *testing.T) {
	routes := func(p parts) *routev3.VirtualHost {
		return p[routeType][edgeRoutes].(*routev3.RouteConfiguration).VirtualHosts[0]
	}
	second := func(p parts) *routev3.Route { return routes(p).Routes[1] }
	for name, row := range map[string]struct {
		spoil func(*testing.T, parts)
		want  string
	}{
		"a route to a missing cluster":       {func(_ *testing.T, p parts) { delete(p[clusterType], "service/orders") }, "service/orders"},
		"a check by a missing cluster":       {func(_ *testing.T, p parts) { delete(p[clusterType], authzCluster) }, "authz"},
		"a listener without its routes":      {func(_ *testing.T, p parts) { delete(p[routeType], edgeRoutes) }, `"edge", which is not there`},
		"a listener without its certificate": {func(_ *testing.T, p parts) { delete(p[secretType], edgeSecret) }, `"edge", which is not there`},
		"a route without a rule":             {func(_ *testing.T, p parts) { second(p).TypedPerFilterConfig = nil }, "neither a rule"},
		"a route with an empty rule":         {func(_ *testing.T, p parts) { second(p).TypedPerFilterConfig[extAuthz] = checked("") }, "exactly one rule"},
		"a route with two extensions":        {func(_ *testing.T, p parts) { second(p).TypedPerFilterConfig[extAuthz] = twoExtensions() }, "exactly one rule"},
		"a route with something else's Any":  {func(_ *testing.T, p parts) { second(p).TypedPerFilterConfig[extAuthz] = pack(&corev3.Node{}) }, "neither a rule"},
		"a route without a bound":            {func(_ *testing.T, p parts) { forwarding(t, routes(p)).MaxStreamDuration = nil }, "for ever"},
		"a route with a bound of 0": {func(_ *testing.T, p parts) {
			forwarding(t, routes(p)).MaxStreamDuration.MaxStreamDuration = seconds(0)
		}, "for ever"},
		"settings that routes would inherit": {func(_ *testing.T, p parts) {
			routes(p).TypedPerFilterConfig = map[string]*anypb.Any{extAuthz: unchecked()}
		}, "inherit"},
		"no catch-all":                      {func(_ *testing.T, p parts) { routes(p).Routes = routes(p).Routes[:2] }, "takes every request"},
		"a host that is not all":            {func(_ *testing.T, p parts) { routes(p).Domains = []string{"a.example"} }, "takes every request"},
		"a check that lets through":         {spoilCheck(func(a *authzv3.ExtAuthz) { a.FailureModeAllow = true }), "let requests through"},
		"a check in shadow":                 {spoilCheck(func(a *authzv3.ExtAuthz) { a.ShadowMode = true }), "let requests through"},
		"a check without a timeout":         {spoilCheck(func(a *authzv3.ExtAuthz) { a.GetGrpcService().Timeout = nil }), "let requests through"},
		"a check after which routes change": {spoilCheck(func(a *authzv3.ExtAuthz) { a.ClearRouteCache = true }), "let requests through"},
		"a listener without a check": {spoilManager(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(f *hcmv3.HttpFilter) bool { return f.GetName() == extAuthz })
		}), "without a check"},
		"a check that may be missing":    {spoilManager(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters[check(m)].IsOptional = true }), "without a check"},
		"a listener that strips nothing": {spoilManager(func(m *hcmv3.HttpConnectionManager) { m.EarlyHeaderMutationExtensions = nil }), "would trust"},
		"a listener with internal addresses": {spoilManager(func(m *hcmv3.HttpConnectionManager) {
			m.InternalAddressConfig = &hcmv3.HttpConnectionManager_InternalAddressConfig{}
		}), "would trust"},
		"limits that are not enforced": {func(_ *testing.T, p parts) {
			limits := localLimit(routeCallerLimit, []Limit{{By: envoy.ByRoute, Requests: 1, Burst: 1, Per: time.Minute}})
			limits.FilterEnforced = nil
			second(p).TypedPerFilterConfig[routeCallerLimit] = pack(limits)
		}, "not enforced"},
		"shared limits that fail open": {spoilManager(func(m *hcmv3.HttpConnectionManager) {
			open := new(ratelimitv3.RateLimit)
			decode(t, (&Inputs{RateLimit: []string{"unix:/a"}}).sharedFilter()[0].GetTypedConfig(), open)
			open.FailureModeDeny = false
			m.HttpFilters = append(m.HttpFilters, filter("last", open))
		}), "uncounted"},
		"networks that judge nobody": {func(_ *testing.T, p parts) {
			second(p).TypedPerFilterConfig[routeNetworks] = pack(&rbacfilterv3.RBACPerRoute{Rbac: &rbacfilterv3.RBAC{}})
		}, "judge nobody"},
		"networks after the check": {spoilManager(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters[0], m.HttpFilters[check(m)] = m.HttpFilters[check(m)], m.HttpFilters[0]
		}), "out of order"},
		"a TLS back end that is not verified": {spoilTLS, "without verifying"},
		"a cluster that the API forbids":      {func(_ *testing.T, p parts) { p[clusterType]["service/orders"].(*clusterv3.Cluster).Name = "" }, "invalid Cluster"},
		"a typed_config that does not decode": {func(_ *testing.T, p parts) {
			second(p).TypedPerFilterConfig[cookieFilter] = &anypb.Any{TypeUrl: "type.googleapis.com/unknown"}
		}, "does not decode"},
	} {
		g := readGateway(t, string(readFile(t, "testdata/minimal.in.yaml")))
		g.Services["tls"] = Service{URL: "https://api.example"}
		in := testInputs(t, g)
		p := in.edge()
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		row.spoil(t, p)
		if err := p.check(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, row.want)
		}
	}
}

// forwarding is the action of the first route that has one.
func forwarding(t *testing.T, host *routev3.VirtualHost) *routev3.RouteAction {
	for _, r := range host.GetRoutes() {
		if r.GetRoute() != nil {
			return r.GetRoute()
		}
	}
	t.Fatal("no route forwards")
	return nil
}

func twoExtensions() *anypb.Any {
	return pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: &authzv3.CheckSettings{
		ContextExtensions: map[string]string{envoy.RuleExtension: "x", "other": "y"},
	}}})
}

func spoilManager(spoil func(*hcmv3.HttpConnectionManager)) func(*testing.T, parts) {
	return func(t *testing.T, p parts) {
		f := p[listenerType][edgeListener].(*listenerv3.Listener).FilterChains[0].Filters[0]
		manager := new(hcmv3.HttpConnectionManager)
		decode(t, f.GetTypedConfig(), manager)
		spoil(manager)
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)}
	}
}

// check is the place of the check among the filters.
func check(m *hcmv3.HttpConnectionManager) int {
	return slices.IndexFunc(m.HttpFilters, func(f *hcmv3.HttpFilter) bool { return f.GetName() == extAuthz })
}

func spoilCheck(spoil func(*authzv3.ExtAuthz)) func(*testing.T, parts) {
	return func(t *testing.T, p parts) {
		spoilManager(func(m *hcmv3.HttpConnectionManager) {
			settings := new(authzv3.ExtAuthz)
			decode(t, m.HttpFilters[check(m)].GetTypedConfig(), settings)
			spoil(settings)
			m.HttpFilters[check(m)] = filter(extAuthz, settings)
		})(t, p)
	}
}

func spoilTLS(t *testing.T, p parts) {
	cluster := p[clusterType]["service/tls"].(*clusterv3.Cluster)
	context := new(tlsv3.UpstreamTlsContext)
	decode(t, cluster.GetTransportSocket().GetTypedConfig(), context)
	context.GetCommonTlsContext().GetValidationContext().MatchTypedSubjectAltNames = nil
	cluster.TransportSocket = transportSocket(context)
}
