package controlplane

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// Names of the filters that count in Envoy. Those of the gateway are in the
// listener, so that an edit of a route does not empty their buckets; those of
// routes come with the routes. Two are in front of the check, two behind it.
const (
	gatewayAddressLimit = "gatehouse.limits.gateway.address"
	routeAddressLimit   = "gatehouse.limits.route.address"
	gatewayCallerLimit  = "gatehouse.limits.gateway.caller"
	routeCallerLimit    = "gatehouse.limits.route.caller"
)

// maxBuckets bounds the buckets of one filter; the one unused for longest goes
// first. Callers come from tokens that the check let in, so forged ones make no
// bucket; addresses can be made up by whoever has many.
const maxBuckets = 100_000

func (in *Inputs) addressLimits() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		gatewayLimit(gatewayAddressLimit, here(in.Gateway.Limits, byAddress)),
		onDemand(routeAddressLimit, &localv3.LocalRateLimit{StatPrefix: routeAddressLimit}),
	}
}

func (in *Inputs) callerLimits() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		gatewayLimit(gatewayCallerLimit, here(in.Gateway.Limits, afterCheck)),
		onDemand(routeCallerLimit, &localv3.LocalRateLimit{StatPrefix: routeCallerLimit}),
	}
}

// gatewayLimit counts on every route, unless there is nothing to count.
func gatewayLimit(name string, limits []Limit) *hcmv3.HttpFilter {
	if len(limits) == 0 {
		return onDemand(name, &localv3.LocalRateLimit{StatPrefix: name})
	}
	return filter(name, localLimit(name, limits))
}

// routeLimits are the filter settings of a route's own limits; what nobody is
// identified for is not counted by caller.
func routeLimits(settings map[string]*anypb.Any, r *Route) {
	for name, limits := range map[string][]Limit{
		routeAddressLimit: here(r.Limits, byAddress), routeCallerLimit: here(r.Limits, afterCheck),
	} {
		if len(limits) > 0 {
			settings[name] = pack(localLimit(name, limits))
		}
	}
}

// uncounted keeps the gateway's limits by caller from routes without a check.
func uncounted() *anypb.Any { return pack(&routev3.FilterConfig{Disabled: true}) }

func localLimit(name string, limits []Limit) *localv3.LocalRateLimit {
	config := &localv3.LocalRateLimit{
		StatPrefix: name,
		// Every request has a bucket of its own below; this one never empties.
		TokenBucket:                     &typev3.TokenBucket{MaxTokens: 1 << 31, TokensPerFill: number(1 << 31), FillInterval: seconds(1e9)},
		AlwaysConsumeDefaultTokenBucket: no(),
		FilterEnabled:                   always(), // 0 % unless told
		FilterEnforced:                  always(),
		EnableXRatelimitHeaders:         commonv3.XRateLimitHeadersRFCVersion_DRAFT_VERSION_03,
		RateLimitedAsResourceExhausted:  true,
		MaxDynamicDescriptors:           number(maxBuckets),
	}
	for _, l := range limits {
		config.Descriptors = append(config.Descriptors, l.bucket())
		config.RateLimits = append(config.RateLimits, &routev3.RateLimit{Actions: l.actions(l.name())})
	}
	return config
}

// bucket is one for each value of the entries that have none here.
func (l *Limit) bucket() *commonv3.LocalRateLimitDescriptor {
	entries := []*commonv3.RateLimitDescriptor_Entry{{Key: envoy.LimitEntry, Value: l.name()}}
	if entry := (envoy.Limit{By: l.By}).Entry(); entry != "" {
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: entry})
	}
	if l.byCaller() {
		entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: envoy.IssuerEntry})
	}
	return &commonv3.LocalRateLimitDescriptor{
		Entries:     entries,
		TokenBucket: &typev3.TokenBucket{MaxTokens: uint32(l.Burst), TokensPerFill: number(uint32(l.Requests)), FillInterval: seconds(l.Per)},
	}
}

// actions say of a request which limit it is, and who sends it. A client's id,
// a subject and a token's id say nothing without their issuer.
func (l *Limit) actions(limit string) []*routev3.RateLimit_Action {
	actions := []*routev3.RateLimit_Action{{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
		GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: envoy.LimitEntry, DescriptorValue: limit},
	}}}
	switch l.By {
	case envoy.ByAddress:
		actions = append(actions, clientNetwork())
	case envoy.ByClient:
		actions = append(actions, told(envoy.ByClient, "client_id"), told(envoy.IssuerEntry, "issuer"))
	case envoy.BySubject:
		actions = append(actions, told(envoy.BySubject, "subject"), told(envoy.IssuerEntry, "issuer"))
	case envoy.ByToken:
		actions = append(actions, told(envoy.ByToken, "token_id"), told(envoy.IssuerEntry, "issuer"))
	}
	return actions
}

// clientNetwork is the client's address: of IPv6 the network that one site has
// at least, within which it can take any address (RFC 6177 §2).
func clientNetwork() *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_MaskedRemoteAddress_{
		MaskedRemoteAddress: &routev3.RateLimit_Action_MaskedRemoteAddress{V4PrefixMaskLen: number(32), V6PrefixMaskLen: number(64)},
	}}
}

// told is an entry with what the authorizer said of the caller.
func told(key, field string) *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
		DescriptorKey: key,
		MetadataKey: &metadatav3.MetadataKey{Key: envoy.MetadataNamespace, Path: []*metadatav3.MetadataKey_PathSegment{{
			Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: field},
		}}},
		Source: routev3.RateLimit_Action_MetaData_DYNAMIC,
	}}}
}

func always() *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100, Denominator: typev3.FractionalPercent_HUNDRED}}
}
