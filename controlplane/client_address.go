package controlplane

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse.dev/gatehouse/envoy"
)

// clientAddress says whose word counts for where a request comes from: the
// socket's peer, unless that is a trusted proxy. Then it is the last address of
// X-Forwarded-For that is no trusted proxy's; all to the left of it anybody can
// have written.
func (in *Inputs) clientAddress(m *hcmv3.HttpConnectionManager) {
	if len(in.Gateway.TrustedProxies) == 0 {
		return // use_remote_address, as it is
	}
	m.UseRemoteAddress = no()
	// With use_remote_address Envoy makes each request's id anew; without, it
	// would keep a client's, and our log and assertions would name what it chose.
	m.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{earlyStrip(envoy.AssertionHeader, envoy.NarrowHeader, "x-request-id")}
	m.OriginalIpDetectionExtensions = []*corev3.TypedExtensionConfig{{
		Name: "envoy.http.original_ip_detection.xff",
		TypedConfig: pack(&xffv3.XffConfig{
			XffTrustedCidrs: &xffv3.XffTrustedCidrs{Cidrs: in.cidrs(in.Gateway.TrustedProxies)},
			SkipXffAppend:   wrapperspb.Bool(false),
		}),
	}}
}

// provenAddress tells services and the issuer where a request comes from, as it
// is judged here: what a client wrote in front of X-Forwarded-For would pass for
// its address with those who read the first, and a proxy's for everybody's with
// those who read the last, so that whoever guesses passwords would lock out the
// person. Where no proxy is trusted, the header is removed before Envoy adds the
// peer.
func (in *Inputs) provenAddress() []*corev3.HeaderValueOption {
	if len(in.Gateway.TrustedProxies) == 0 {
		return nil
	}
	return []*corev3.HeaderValueOption{{
		Header:       &corev3.HeaderValue{Key: "x-forwarded-for", Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}
}

// proxied makes a listener demand a PROXY header, from the named networks, and
// close every other connection: whoever may send one can name any address.
func (in *Inputs) proxied(l *listenerv3.Listener) *listenerv3.Listener {
	if len(in.Gateway.ProxyProtocol) == 0 {
		return l
	}
	header := &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.proxy_protocol",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(&proxyv3.ProxyProtocol{})},
	}
	// In front of what reads the bytes after it.
	l.ListenerFilters = append([]*listenerv3.ListenerFilter{header}, l.ListenerFilters...)
	for _, chain := range l.FilterChains {
		if chain.FilterChainMatch == nil {
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{}
		}
		chain.FilterChainMatch.DirectSourcePrefixRanges = in.cidrs(in.Gateway.ProxyProtocol)
	}
	return l
}

func (in *Inputs) cidrs(texts []string) []*corev3.CidrRange {
	var all []netip.Prefix
	for _, text := range ordered(texts) {
		p, err := parsePrefix(text)
		if err != nil {
			panic(packError{err})
		}
		all = append(all, p)
	}
	return in.ranges(all)
}
