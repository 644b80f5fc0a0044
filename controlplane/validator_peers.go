package controlplane

import (
	"strings"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// identified proves that a listener which shows the workload's own certificate
// demands one, and judges who it is before anything else.
func (w *walk) identified(m *listenerv3.FilterChain) {
	context := new(tlsv3.DownstreamTlsContext)
	if m.GetTransportSocket().GetTypedConfig() == nil || m.GetTransportSocket().GetTypedConfig().UnmarshalTo(context) != nil {
		return
	}
	own := false
	for _, sds := range context.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		own = own || sds.GetName() == envoy.IdentitySecret
	}
	if !own {
		return
	}
	validation := context.GetCommonTlsContext().GetCombinedValidationContext().GetValidationContextSdsSecretConfig()
	if !context.GetRequireClientCertificate().GetValue() || validation.GetName() != envoy.TrustSecret {
		w.fault("lets peers in without a certificate of the trust domain")
	}
	manager := new(hcmv3.HttpConnectionManager)
	if len(m.GetFilters()) != 1 || m.GetFilters()[0].GetTypedConfig().UnmarshalTo(manager) != nil {
		w.fault("has something else than one HTTP connection manager")
		return
	}
	filters := manager.GetHttpFilters()
	base := new(rbacv3.RBAC)
	if len(filters) == 0 || filters[0].GetName() != peersFilter || filters[0].GetDisabled() || filters[0].GetIsOptional() ||
		filters[0].GetTypedConfig().UnmarshalTo(base) != nil || base.GetRules() == nil || len(base.GetRules().GetPolicies()) > 0 {
		w.fault("does not refuse peers first")
	}
}

// peers looks at what a host or a route says of them.
func (w *walk) peers(settings map[string]*anypb.Any) {
	if settings[peersFilter] == nil {
		return
	}
	own := new(rbacv3.RBACPerRoute)
	if err := settings[peersFilter].UnmarshalTo(own); err != nil {
		w.fault("has peers that do not decode: %w", err)
		return
	}
	w.exact(own.GetRbac())
}

// exact proves that peers are admitted by an exact SPIFFE id, their only one,
// alone. Without rules and matcher the filter would admit everybody.
func (w *walk) exact(m *rbacv3.RBAC) {
	tree := m.GetMatcher().GetMatcherTree()
	switch {
	case proto.Equal(m, denyAll()):
		return
	case m.GetRules() != nil || tree == nil || !tree.GetInput().GetTypedConfig().MessageIs(&sslv3.UriSanInput{}) || len(tree.GetExactMatchMap().GetMap()) == 0:
		w.fault("admits peers by something else than a list of their one URI")
	case actionOf(m.GetMatcher().GetOnNoMatch()) != rbacconfigv3.RBAC_DENY:
		w.fault("admits peers that are not on its list")
	}
	for id := range tree.GetExactMatchMap().GetMap() {
		if trustDomainOf(id) == "" || strings.Contains(id, ",") {
			w.fault("admits peers by something else than an exact SPIFFE id")
		}
	}
}

// actionOf is what a matcher does; one that does nothing is said to allow.
func actionOf(m *matcherv3.Matcher_OnMatch) rbacconfigv3.RBAC_Action {
	action := new(rbacconfigv3.Action)
	if err := m.GetAction().GetTypedConfig().UnmarshalTo(action); m == nil || err != nil {
		return rbacconfigv3.RBAC_ALLOW
	}
	return action.GetAction()
}
