package controlplane

import (
	"strings"
	"testing"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Each mistake that would let the wrong peers in is found before it is
// published.
func TestValidatorFindsStrangers(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*testing.T, parts)
		want  string
	}{
		"no client certificate": {spoilInboundTLS(func(c *tlsv3.DownstreamTlsContext) { c.RequireClientCertificate = wrapperspb.Bool(false) }), "without a certificate"},
		"another trust": {spoilInboundTLS(func(c *tlsv3.DownstreamTlsContext) {
			c.CommonTlsContext.GetCombinedValidationContext().ValidationContextSdsSecretConfig.Name = "identity"
		}), "without a certificate"},
		"no judge": {spoilInbound(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters = m.HttpFilters[1:] }), "refuse peers first"},
		"a judge afterwards": {spoilInbound(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters[0], m.HttpFilters[1] = m.HttpFilters[1], m.HttpFilters[0]
		}), "refuse peers first"},
		"a judge that may be missing": {spoilInbound(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters[0].IsOptional = true }), "refuse peers first"},
		"a judge without rules":       {spoilInbound(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters[0] = filter(peersFilter, &rbacv3.RBAC{}) }), "refuse peers first"},
		"a judge that admits": {spoilInbound(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters[0] = filter(peersFilter, allowPeers([]string{"spiffe://a/b"}).GetRbac())
		}), "refuse peers first"},
		"no judge on a host":          {spoilPeers(&rbacv3.RBACPerRoute{}), "judge nobody"},
		"peers that are denied":       {spoilPeers(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY}}}), "than a list"},
		"peers by any of their names": {spoilPeers(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: anyPeer()}}), "than a list"},
		"peers by their DNS names": {spoilList(func(m *xdsmatcherv3.Matcher) {
			m.GetMatcherTree().Input.TypedConfig = pack(&sslv3.DnsSanInput{})
		}), "than a list"},
		"peers by a prefix": {spoilList(func(m *xdsmatcherv3.Matcher) {
			tree := m.GetMatcherTree()
			tree.TreeType = &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: tree.GetExactMatchMap()}
		}), "than a list"},
		"peers on no list":              {spoilList(func(m *xdsmatcherv3.Matcher) { m.OnNoMatch = act("all", rbacconfigv3.RBAC_ALLOW) }), "not on its list"},
		"peers that nothing is said of": {spoilList(func(m *xdsmatcherv3.Matcher) { m.OnNoMatch = nil }), "not on its list"},
		"peers by no name":              {spoilPeers(allowPeers([]string{""})), "exact SPIFFE id"},
		"peers by two names":            {spoilPeers(allowPeers([]string{"spiffe://a/b,spiffe://a/c"})), "exact SPIFFE id"},
		"a route without a rule": {func(_ *testing.T, p parts) {
			delete(inboundHost(p).Routes[3].TypedPerFilterConfig, extAuthz)
		}, "neither a rule"},
		"an outbound route without a rule": {func(_ *testing.T, p parts) {
			hosts := p[routeType][outboundListener].(*routev3.RouteConfiguration).VirtualHosts
			delete(hosts[0].Routes[2].TypedPerFilterConfig, extAuthz)
		}, "neither a rule"},
		"the edge's key": {spoilInboundTLS(func(c *tlsv3.DownstreamTlsContext) {
			c.CommonTlsContext.TlsCertificateSdsSecretConfigs = append(c.CommonTlsContext.TlsCertificateSdsSecretConfigs, &tlsv3.SdsSecretConfig{Name: edgeSecret, SdsConfig: viaADS()})
		}), "not there"},
	} {
		in := meshInputs(t)
		p := in.sidecar("orders")
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		row.spoil(t, p)
		if err := p.check(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, row.want)
		}
	}
}

func inboundHost(p parts) *routev3.VirtualHost {
	return p[routeType][inboundListener].(*routev3.RouteConfiguration).VirtualHosts[0]
}

func spoilPeers(own *rbacv3.RBACPerRoute) func(*testing.T, parts) {
	return func(_ *testing.T, p parts) {
		inboundHost(p).TypedPerFilterConfig = map[string]*anypb.Any{peersFilter: pack(own)}
	}
}

// anyPeer admits by Envoy's own principal, which any name of a certificate is.
func anyPeer() *rbacconfigv3.RBAC {
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW, Policies: map[string]*rbacconfigv3.Policy{"peers": {
		Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
		Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Authenticated_{
			Authenticated: &rbacconfigv3.Principal_Authenticated{PrincipalName: exactly("spiffe://a/b")},
		}}},
	}}}
}

func spoilList(spoil func(*xdsmatcherv3.Matcher)) func(*testing.T, parts) {
	own := allowPeers([]string{"spiffe://a/b"})
	spoil(own.GetRbac().GetMatcher())
	return spoilPeers(own)
}

func spoilInbound(spoil func(*hcmv3.HttpConnectionManager)) func(*testing.T, parts) {
	return func(t *testing.T, p parts) {
		f := p[listenerType][inboundListener].(*listenerv3.Listener).FilterChains[0].Filters[0]
		manager := new(hcmv3.HttpConnectionManager)
		decode(t, f.GetTypedConfig(), manager)
		spoil(manager)
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)}
	}
}

func spoilInboundTLS(spoil func(*tlsv3.DownstreamTlsContext)) func(*testing.T, parts) {
	return func(t *testing.T, p parts) {
		chain := p[listenerType][inboundListener].(*listenerv3.Listener).FilterChains[0]
		context := new(tlsv3.DownstreamTlsContext)
		decode(t, chain.GetTransportSocket().GetTypedConfig(), context)
		spoil(context)
		chain.TransportSocket = transportSocket(context)
	}
}
