package controlplane

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"gatehouse.dev/gatehouse/envoy"
)

const (
	rateLimitCluster = "ratelimit"
	rateLimitFilter  = "envoy.filters.http.ratelimit"
	// countTimeout bounds one decision; 20 ms unless told.
	countTimeout = 250 * time.Millisecond
)

// sharedFilter asks the rate-limit service, where there is one. What it cannot
// answer is refused: Envoy lets it through unless told.
func (in *Inputs) sharedFilter() []*hcmv3.HttpFilter {
	if len(in.RateLimit) == 0 {
		return nil
	}
	return []*hcmv3.HttpFilter{filter(rateLimitFilter, &ratelimitv3.RateLimit{
		Domain:                         envoy.LimitDomain,
		Timeout:                        seconds(countTimeout),
		FailureModeDeny:                true,
		StatusOnError:                  &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		RateLimitedAsResourceExhausted: true,
		DisableXEnvoyRatelimitedHeader: true,
		RateLimitService: &ratelimitconfigv3.RateLimitServiceConfig{
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: rateLimitCluster},
			}},
		},
	})}
}

// sharedLimits are what a route asks the rate-limit service to count; r is nil
// for the generator's own.
func (in *Inputs) sharedLimits(r *Route) (all []*routev3.RateLimit) {
	add := func(limits []Limit, scope string) {
		for _, l := range limits {
			if l.Shared && l.countsOn(r) {
				form := envoy.Limit{By: l.By, Scope: scope, Requests: l.Requests, Burst: l.Burst, Per: l.Per}
				all = append(all, &routev3.RateLimit{Actions: l.actions(form.String())})
			}
		}
	}
	add(in.Gateway.Limits, envoy.EveryRoute)
	if r == nil {
		return all
	}
	add(r.Limits, r.ID)
	if in.Plans && !r.Public {
		all = append(all, &routev3.RateLimit{Actions: []*routev3.RateLimit_Action{
			toldOr(envoy.PlanEntry, "plan", "-"), toldOr(envoy.RolesEntry, "roles", "-"),
			told(envoy.ByClient, "client_id"), told(envoy.BySubject, "subject"), told(envoy.IssuerEntry, "issuer"),
		}})
	}
	return all
}

// toldOr is told with a value for what the authorizer said nothing of.
func toldOr(key, field, absent string) *routev3.RateLimit_Action {
	action := told(key, field)
	action.GetMetadata().DefaultValue = absent
	return action
}

// limiters is the cluster of the rate-limit services; each of several counts in
// the same Redis.
func (in *Inputs) limiters() *clusterv3.Cluster {
	cluster := newCluster(rateLimitCluster, &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP2()})
	cluster.ConnectTimeout = seconds(authzConnect)
	addresses := make([]*corev3.Address, len(in.RateLimit))
	for i, a := range in.RateLimit {
		addresses[i] = partAddress(cluster, a, in.RateLimitIdentity)
	}
	cluster.LoadAssignment.Endpoints = endpoints(addresses...)
	if len(addresses) > 1 {
		cluster.HealthChecks = []*corev3.HealthCheck{{
			Timeout: seconds(authzConnect), Interval: seconds(time.Second), NoTrafficInterval: seconds(time.Second),
			UnhealthyThreshold: number(1), HealthyThreshold: number(1),
			HealthChecker: &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
		}}
	}
	return cluster
}
