package controlplane

import (
	"net/netip"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	inputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Names of the filters that judge the client's address: the gateway's lists and
// the route's are two filters, for a route's settings replace what it inherits.
const (
	gatewayNetworks = "gatehouse.networks.gateway"
	routeNetworks   = "gatehouse.networks.route"
)

// networkFilters do nothing by themselves: the lists come with the routes,
// whose edits drain no connection.
func networkFilters() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		onDemand(gatewayNetworks, &rbacfilterv3.RBAC{}),
		onDemand(routeNetworks, &rbacfilterv3.RBAC{}),
	}
}

// onDemand is a filter that costs nothing on routes without settings for it.
func onDemand(name string, config proto.Message) *hcmv3.HttpFilter {
	f := filter(name, config)
	f.Disabled = true
	return f
}

// judge is the settings of a filter for networks: deny, then allow. What
// matches no line is decided by the last one, and an empty matcher denies.
func (in *Inputs) judge(n Networks) *anypb.Any {
	list := &matcherv3.Matcher_MatcherList{}
	if len(n.Deny) > 0 {
		list.Matchers = append(list.Matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: in.within(n.Deny), OnMatch: act("denied", rbacv3.RBAC_DENY),
		})
	}
	if len(n.Allow) > 0 {
		outside := &matcherv3.Matcher_MatcherList_Predicate{
			MatchType: &matcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: in.within(n.Allow)},
		}
		list.Matchers = append(list.Matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: outside, OnMatch: act("not-allowed", rbacv3.RBAC_DENY),
		})
	}
	return pack(&rbacfilterv3.RBACPerRoute{Rbac: &rbacfilterv3.RBAC{Matcher: &matcherv3.Matcher{
		MatcherType: &matcherv3.Matcher_MatcherList_{MatcherList: list},
		OnNoMatch:   act("allowed", rbacv3.RBAC_ALLOW),
	}}})
}

func act(name string, action rbacv3.RBAC_Action) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
		Name: name, TypedConfig: pack(&rbacv3.Action{Name: name, Action: action}),
	}}}
}

// within tells whether the client's address is in any of the lists: each is one
// trie, so that its length does not matter.
func (in *Inputs) within(names []string) *matcherv3.Matcher_MatcherList_Predicate {
	any := make([]*matcherv3.Matcher_MatcherList_Predicate, 0, len(names))
	for _, name := range ordered(names) {
		any = append(any, clientIn(name, in.ranges(in.Lists[name])))
	}
	if len(any) == 1 {
		return any[0]
	}
	return &matcherv3.Matcher_MatcherList_Predicate{MatchType: &matcherv3.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &matcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: any},
	}}
}

func clientIn(list string, ranges []*corev3.CidrRange) *matcherv3.Matcher_MatcherList_Predicate {
	return &matcherv3.Matcher_MatcherList_Predicate{MatchType: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input: &xdscorev3.TypedExtensionConfig{Name: "client-address", TypedConfig: pack(&inputsv3.SourceIPInput{})},
			Matcher: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: &xdscorev3.TypedExtensionConfig{
				Name: list, TypedConfig: pack(&ipv3.Ip{CidrRanges: ranges, StatPrefix: "ip_list_" + list}),
			}},
		},
	}}
}

// ranges are networks as Envoy has them. A proxy in front, by X-Forwarded-For or
// a PROXY header, may spell an IPv4 client as ::ffff:192.0.2.1, which Envoy
// takes for IPv6: then both count.
func (in *Inputs) ranges(all []netip.Prefix) []*corev3.CidrRange {
	ranges := make([]*corev3.CidrRange, 0, len(all))
	proxied := len(in.Gateway.TrustedProxies)+len(in.Gateway.ProxyProtocol) > 0
	for _, p := range all {
		ranges = append(ranges, cidr(p))
		if proxied && p.Addr().Is4() {
			mapped := netip.AddrFrom16(p.Addr().As16())
			ranges = append(ranges, cidr(netip.PrefixFrom(mapped, p.Bits()+96)))
		}
	}
	// A trie of nothing is refused by Envoy; nobody comes from this address.
	if len(ranges) == 0 {
		ranges = append(ranges, cidr(netip.MustParsePrefix("0.0.0.0/32")))
	}
	return ranges
}

func cidr(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: number(uint32(p.Bits()))}
}
