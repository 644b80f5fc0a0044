package controlplane

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"gatehouse.dev/gatehouse/envoy"
)

const (
	// watchFilter has an authorizer watch what may go on for long between two
	// workloads, and breaks it off when that one says so or is there no more.
	watchFilter = "gatehouse.watch"
	// watchCluster are the authorizers once more, so that however many streams
	// are watched, Checks have their connections.
	watchCluster = "watch"
	// unwatched is how long a request may take to answer without being watched;
	// a call that is held open for each short one would cost as much as its Check.
	// With the time that it may take to arrive, it is over 90 s after it began.
	unwatched = 30 * time.Second
	// maxWatched bounds the streams that an Envoy has watched; an authorizer takes
	// those of four Envoys with one identity.
	maxWatched = 4 * maxPerService
)

// watching is the filter; routes that may take long turn it on. It shows
// nothing of a request but who has sent it, and changes nothing.
func watching(attributes ...string) *hcmv3.HttpFilter {
	skip := extprocv3.ProcessingMode_SKIP
	return onDemand(watchFilter, &extprocv3.ExternalProcessor{
		GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: watchCluster}},
			RetryPolicy:     checkRetry(),
		},
		FailureModeAllow: false,
		StatusOnError:    &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		MessageTimeout:   seconds(checkTimeout),
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode: extprocv3.ProcessingMode_SEND, ResponseHeaderMode: skip, RequestTrailerMode: skip,
			// What comes last is asked for, or Envoy would hang up before.
			ResponseTrailerMode: extprocv3.ProcessingMode_SEND,
		},
		RequestAttributes:        attributes,
		ForwardRules:             &extprocv3.HeaderForwardingRules{DisallowedHeaders: &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{anything()}}},
		MutationRules:            &mutationv3.HeaderMutationRules{DisallowAll: yes(), DisallowIsError: yes()},
		RouteCacheAction:         extprocv3.ExternalProcessor_RETAIN,
		DisableImmediateResponse: true,
	})
}

// watchFilters are the edge's, where it leads to workloads at all.
func (in *Inputs) watchFilters() []*hcmv3.HttpFilter {
	if !in.Gateway.HasSidecars() {
		return nil
	}
	return []*hcmv3.HttpFilter{watching()}
}

func anything() *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: ".*"}}}
}

// watched has a route watched that may take longer than others. target is the
// SPIFFE id of whom it leads to; empty: the service that this Envoy is beside.
func watched(route *routev3.Route, longest time.Duration, target string) {
	if longest <= unwatched {
		return
	}
	overrides := &extprocv3.ExtProcOverrides{}
	if target != "" {
		overrides.GrpcInitialMetadata = []*corev3.HeaderValue{{Key: envoy.TargetMetadata, Value: target}}
	}
	route.TypedPerFilterConfig[watchFilter] = pack(&extprocv3.ExtProcPerRoute{
		Override: &extprocv3.ExtProcPerRoute_Overrides{Overrides: overrides},
	})
}

// watchers is the cluster of authorizers that watch. All of an Envoy's streams
// share it, so it takes as many as go to several services. That is the same for
// every configuration: a change of this cluster would break all of them off.
func (in *Inputs) watchers(group string) *clusterv3.Cluster {
	cluster := in.authorizers(group)
	cluster.Name, cluster.LoadAssignment.ClusterName = watchCluster, watchCluster
	cluster.CircuitBreakers.Thresholds[0].MaxRequests = number(maxWatched)
	return cluster
}
