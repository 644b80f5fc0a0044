package controlplane

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
)

// peersFilter judges who calls, by the certificate that the peer has shown.
const peersFilter = "gatehouse.peers"

// denyAll is what holds on a route that says nothing of peers.
func denyAll() *rbacv3.RBAC {
	return &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}}
}

// allowPeers is a route's word on who may come: peers whose certificate has one
// of these SPIFFE ids as its only URI (X509-SVID §2). Envoy's own principal of
// a peer is any of its URIs, or of its DNS names; the input here is all URIs,
// joined by commas, which no id has. Without ids nobody may.
func allowPeers(ids []string) *rbacv3.RBACPerRoute {
	if len(ids) == 0 {
		return &rbacv3.RBACPerRoute{Rbac: denyAll()}
	}
	allowed := map[string]*matcherv3.Matcher_OnMatch{}
	for _, id := range ids {
		allowed[id] = act("peer", rbacconfigv3.RBAC_ALLOW)
	}
	return &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Matcher: &matcherv3.Matcher{
		MatcherType: &matcherv3.Matcher_MatcherTree_{MatcherTree: &matcherv3.Matcher_MatcherTree{
			Input:    &xdscorev3.TypedExtensionConfig{Name: "peer-uris", TypedConfig: pack(&sslv3.UriSanInput{})},
			TreeType: &matcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &matcherv3.Matcher_MatcherTree_MatchMap{Map: allowed}},
		}},
		OnNoMatch: act("nobody", rbacconfigv3.RBAC_DENY),
	}}}
}
