package controlplane

import (
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// check proves what Envoy does not: it takes a route to a cluster that is not
// there and answers 503, and a route without a rule inherits or lacks one. The
// resources are read as Envoy reads them, so the check owes nothing to the code
// that made them.
func (p parts) check() error {
	w := &walk{parts: p}
	for _, typeURL := range allTypes {
		for _, name := range sortedKeys(p[typeURL]) {
			w.at = typeURL + " " + name
			w.constraints(p[typeURL][name])
			w.message(p[typeURL][name])
		}
	}
	for _, name := range sortedKeys(p[routeType]) {
		w.at = "route configuration " + name
		w.routes(p[routeType][name].(*routev3.RouteConfiguration), w.guarded[name])
	}
	return errors.Join(w.faults...)
}

// walk visits every message of every resource, those packed in Anys included.
type walk struct {
	parts  parts
	at     string
	faults []error
	// guarded tells which route configurations are behind a check.
	guarded map[string]bool
}

func (w *walk) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Errorf(w.at+": "+format, args...))
}

func (w *walk) message(m proto.Message) {
	switch m := m.(type) {
	case *anypb.Any:
		inner, err := m.UnmarshalNew()
		if err != nil {
			w.fault("has a typed_config that does not decode: %w", err)
			return
		}
		w.constraints(inner)
	case *hcmv3.HttpConnectionManager:
		w.manager(m)
	case *authzv3.ExtAuthz:
		w.failClosed(m)
	case *listenerv3.FilterChain:
		w.identified(m)
	case *tlsv3.SdsSecretConfig:
		w.secret(m)
		return
	case *corev3.GrpcService_EnvoyGrpc:
		w.needs(clusterType, m.GetClusterName())
	case *tlsv3.UpstreamTlsContext:
		w.verified(m)
	case *ratelimitv3.RateLimit:
		if !m.GetFailureModeDeny() || m.GetTimeout() == nil || m.GetStatusOnError() == nil || m.GetFilterEnabled() != nil || m.GetFilterEnforced() != nil {
			w.fault("has shared limits that could let requests through uncounted")
		}
	case *extprocv3.ExternalProcessor:
		if m.GetFailureModeAllow() || m.GetStatusOnError() == nil || !m.GetMutationRules().GetDisallowAll().GetValue() {
			w.fault("watches streams so that one goes on unwatched, or is changed")
		}
	case *localv3.LocalRateLimit:
		w.enforced(m)
	case *rbacfilterv3.RBACPerRoute:
		if m.GetRbac().GetMatcher() == nil && m.GetRbac().GetRules() == nil {
			w.fault("has networks or peers that judge nobody")
		}
	}
	eachChild(m, w.message)
}

// constraints are those that the API's own definition has and Envoy enforces.
func (w *walk) constraints(m proto.Message) {
	if checked, ok := m.(interface{ ValidateAll() error }); ok {
		if err := checked.ValidateAll(); err != nil {
			w.fault("%w", err)
		}
	}
}

func (w *walk) needs(typeURL, name string) {
	if w.parts[typeURL][name] == nil {
		w.fault("refers to %s %q, which is not there", typeURL, name)
	}
}

// secret comes over ADS, or is one of the two that the Envoy's agent serves: the
// bootstrap has its cluster.
func (w *walk) secret(m *tlsv3.SdsSecretConfig) {
	if overADS(m) {
		w.needs(secretType, m.GetName())
		return
	}
	services := m.GetSdsConfig().GetApiConfigSource().GetGrpcServices()
	if len(services) != 1 || services[0].GetEnvoyGrpc().GetClusterName() != envoy.AgentCluster ||
		m.GetName() != envoy.IdentitySecret && m.GetName() != envoy.TrustSecret {
		w.fault("refers to a secret %q that neither this nor the agent serves", m.GetName())
	}
}

func overADS(m *tlsv3.SdsSecretConfig) bool { return m.GetSdsConfig().GetAds() != nil }

func (w *walk) manager(m *hcmv3.HttpConnectionManager) {
	name := m.GetRds().GetRouteConfigName()
	w.needs(routeType, name)
	if w.guarded == nil {
		w.guarded = map[string]bool{}
	}
	for _, f := range m.GetHttpFilters() {
		w.guarded[name] = w.guarded[name] || f.GetName() == extAuthz && !f.GetDisabled() && !f.GetIsOptional()
	}
	w.inOrder(m.GetHttpFilters())
	if m.GetInternalAddressConfig() != nil || len(m.GetEarlyHeaderMutationExtensions()) == 0 || len(m.GetUpgradeConfigs()) > 0 {
		w.fault("would trust or upgrade what clients send")
	}
}

// order is that of the filters that must have one: who is refused early costs
// nobody anything, and what counts by identity comes after the check.
var order = []string{
	limitHeaders, peersFilter, gatewayNetworks, routeNetworks, gatewayAddressLimit, routeAddressLimit, extAuthz,
	gatewayCallerLimit, routeCallerLimit, rateLimitFilter, cookieFilter, trailerFilter, routerFilter,
}

func (w *walk) inOrder(filters []*hcmv3.HttpFilter) {
	last := -1
	for _, f := range filters {
		at := slices.Index(order, f.GetName())
		if at < 0 {
			continue
		}
		if at <= last {
			w.fault("has the filter %q out of order", f.GetName())
		}
		last = at
	}
}

// enforced finds limits that Envoy would count and not enforce, its default, or
// whose callers would be too many for its buckets.
func (w *walk) enforced(m *localv3.LocalRateLimit) {
	whole := func(p *corev3.RuntimeFractionalPercent) bool {
		return p.GetDefaultValue().GetNumerator() == 100 && p.GetRuntimeKey() == ""
	}
	if len(m.GetDescriptors()) == 0 {
		return // an empty filter, for routes to fill
	}
	if !whole(m.GetFilterEnabled()) || !whole(m.GetFilterEnforced()) || m.GetMaxDynamicDescriptors().GetValue() != maxBuckets {
		w.fault("has limits that are not enforced")
	}
}

func (w *walk) failClosed(m *authzv3.ExtAuthz) {
	if m.GetFailureModeAllow() || m.GetFailureModeAllowHeaderAdd() || m.GetShadowMode() || m.GetClearRouteCache() ||
		m.GetFilterEnabled() != nil || m.GetFilterEnabledMetadata() != nil || m.GetGrpcService().GetTimeout() == nil {
		w.fault("has a check that could let requests through")
	}
}

func (w *walk) verified(m *tlsv3.UpstreamTlsContext) {
	common := m.GetCommonTlsContext()
	contexts := []*tlsv3.CertificateValidationContext{common.GetValidationContext(), common.GetCombinedValidationContext().GetDefaultValidationContext()}
	for _, c := range contexts {
		if len(c.GetMatchTypedSubjectAltNames()) > 0 {
			return
		}
	}
	w.fault("calls a server over TLS without verifying who it is")
}

func (w *walk) routes(config *routev3.RouteConfiguration, guarded bool) {
	catchAll := false
	for _, host := range config.GetVirtualHosts() {
		for name := range host.GetTypedPerFilterConfig() {
			if name != peersFilter { // whom it admits may be the same for all of a host
				w.fault("virtual host %q has filter settings that its routes would inherit", host.GetName())
			}
		}
		w.peers(host.GetTypedPerFilterConfig())
		for _, r := range host.GetRoutes() {
			w.peers(r.GetTypedPerFilterConfig())
			w.route(r, guarded)
		}
		last := host.GetRoutes()[len(host.GetRoutes())-1]
		catchAll = catchAll || last.GetMatch().GetPrefix() == "/" && len(last.GetMatch().GetHeaders()) == 0 && len(host.GetDomains()) == 1 && host.GetDomains()[0] == "*"
	}
	if !catchAll {
		w.fault("has no last route that takes every request")
	}
}

func (w *walk) route(r *routev3.Route, guarded bool) {
	if cluster := r.GetRoute().GetCluster(); cluster != "" {
		w.needs(clusterType, cluster)
	}
	if r.GetRoute() != nil && r.GetRoute().GetMaxStreamDuration().GetMaxStreamDuration().AsDuration() <= 0 {
		w.fault("route %q lets a request go on for ever", r.GetName())
	}
	if !guarded {
		if r.GetRoute() != nil {
			w.fault("route %q forwards without a check on its listener", r.GetName())
		}
		return
	}
	setting := new(authzv3.ExtAuthzPerRoute)
	if packed := r.GetTypedPerFilterConfig()[extAuthz]; packed == nil || packed.UnmarshalTo(setting) != nil {
		w.fault("route %q has neither a rule nor says that it is public", r.GetName())
		return
	}
	extensions := setting.GetCheckSettings().GetContextExtensions()
	if !setting.GetDisabled() && (len(extensions) != 1 || extensions[envoy.RuleExtension] == "") {
		w.fault("route %q must have exactly one rule", r.GetName())
	}
}

// neededSecrets are those that clusters need before they take requests.
func (p parts) neededSecrets() (names []string) {
	for _, name := range sortedKeys(p[clusterType]) {
		var visit func(proto.Message)
		visit = func(m proto.Message) {
			if sds, ok := m.(*tlsv3.SdsSecretConfig); ok && overADS(sds) {
				names = append(names, sds.GetName())
			}
			eachChild(m, visit)
		}
		visit(p[clusterType][name])
	}
	return ordered(names)
}

// resolvedClusters are those that Envoy must resolve names for first.
func (p parts) resolvedClusters() map[string]bool {
	names := map[string]bool{}
	for name, m := range p[clusterType] {
		if m.(*clusterv3.Cluster).GetType() != clusterv3.Cluster_STATIC {
			names[name] = true
		}
	}
	return names
}
