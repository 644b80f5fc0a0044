package controlplane

import (
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	authzCluster = "authz"
	extAuthz     = "envoy.filters.http.ext_authz"
	// checkTimeout bounds one Check with its retry; then the answer is 503.
	checkTimeout = time.Second
	// authzConnect bounds the connection to an authorizer, which is near.
	authzConnect = 250 * time.Millisecond
	// retryPause is, at most, before another authorizer is asked.
	retryPause = 5 * time.Millisecond
	// maxDenial bounds the body of a denial, in bytes.
	maxDenial = 16 << 10
)

// readHeaders are the request headers that a Check carries: those that authz
// reads and a superset for policies. It is fixed, because a change of it is a
// change of the listener, which drains connections.
var readHeaders = []string{
	"authorization", "dpop", envoy.AssertionHeader, envoy.NarrowHeader, "content-type", "accept", "user-agent", "origin",
	"x-request-id", "traceparent", "x-forwarded-for", "x-forwarded-proto",
}

// settable are the headers that an authorizer may set or remove on a request.
const settable = `x-gatehouse-[a-z-]+|gatehouse-assertion|gatehouse-narrow-scope|x-envoy-upstream-stream-duration-ms`

// checkFilter asks an authorizer about each request, and lets none through
// without its word. It carries readHeaders and the credential's, if that is
// none of them.
func checkFilter(credential ...string) *authzv3.ExtAuthz {
	return &authzv3.ExtAuthz{
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: authzCluster,
			}},
			// Not EnvoyGrpc's own, which is for xDS streams alone.
			RetryPolicy: checkRetry(),
			Timeout:     seconds(checkTimeout),
		}},
		TransportApiVersion:            corev3.ApiVersion_V3,
		FailureModeAllow:               false,
		StatusOnError:                  &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ValidateMutations:              true,
		DecoderHeaderMutationRules:     mutationRules(),
		EncodeRawHeaders:               true, // duplicates stay apart
		AllowedHeaders:                 oneOf(slices.Concat(readHeaders, credential)),
		EnableDynamicMetadataIngestion: yes(),
		MaxDeniedResponseBodyBytes:     maxDenial,
	}
}

// mutationRules keep an authorizer to its own headers; anything else makes the
// request fail.
func mutationRules() *mutationv3.HeaderMutationRules {
	return &mutationv3.HeaderMutationRules{
		DisallowAll:     yes(),
		AllowExpression: &matcherv3.RegexMatcher{Regex: settable},
		AllowEnvoy:      yes(),
		DisallowIsError: yes(),
	}
}

// checkRetry asks another authorizer where one could not be reached at all, so
// that one of several may go away unnoticed.
func checkRetry() *corev3.RetryPolicy {
	return &corev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,reset-before-request",
		NumRetries: number(1),
		// Envoy takes the longest pause for the time that one try may take, too.
		RetryBackOff: &corev3.BackoffStrategy{BaseInterval: seconds(retryPause), MaxInterval: seconds(checkTimeout)},
		RetryHostPredicate: []*corev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previousv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 3,
	}
}

// checked makes a route carry its rule.
func checked(rule string) *anypb.Any {
	return pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: &authzv3.CheckSettings{
		ContextExtensions: map[string]string{envoy.RuleExtension: rule},
	}}})
}

// unchecked makes a route public.
func unchecked() *anypb.Any {
	return pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
}

// authorizers is the cluster of the authorizers. Health checks take one that is
// not ready out while others are; with none ready Envoy asks them all the same
// (panic mode), so one that comes back is used at once.
func (in *Inputs) authorizers(group string) *clusterv3.Cluster {
	options := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP2()}
	cluster := newCluster(authzCluster, options)
	cluster.ConnectTimeout = seconds(authzConnect)
	cluster.HealthChecks = []*corev3.HealthCheck{{
		Timeout: seconds(authzConnect), Interval: seconds(time.Second), NoTrafficInterval: seconds(time.Second),
		UnhealthyInterval: seconds(250 * time.Millisecond), UnhealthyEdgeInterval: seconds(250 * time.Millisecond),
		UnhealthyThreshold: number(1), HealthyThreshold: number(1),
		HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}}
	// One try more a request, at most: many at once where an authorizer goes away.
	cluster.CircuitBreakers.Thresholds[0].MaxRetries = number(maxPerService)
	from := in.authzOf(group)
	addresses := make([]*corev3.Address, len(from))
	for i, a := range from {
		addresses[i] = partAddress(cluster, a, in.AuthzIdentity)
	}
	cluster.LoadAssignment.Endpoints = endpoints(addresses...)
	return cluster
}

// authzOf are the authorizers that a group's Envoys ask: Envoy speaks plainly to
// all of a cluster or mutual TLS to all, and a Unix socket is for the edge on
// its machine.
func (in *Inputs) authzOf(group string) []string {
	tls := in.overTLS()
	if group != envoy.EdgeGroup || len(tls) == len(in.Authz) {
		return tls
	}
	return slices.DeleteFunc(slices.Clone(in.Authz), func(a string) bool { return slices.Contains(tls, a) })
}

// overTLS are the authorizers on HOST:PORT.
func (in *Inputs) overTLS() []string {
	return slices.DeleteFunc(slices.Clone(in.Authz), func(a string) bool { return !isTCP(a) })
}

// isTCP tells HOST:PORT from unix:PATH.
func isTCP(address string) bool {
	_, unix := serve.UnixPath(address)
	return !unix
}

// partAddress is where a part of Gatehouse is reached. It turns the cluster to
// mutual TLS with that identity, and to names, where the address asks for it.
func partAddress(cluster *clusterv3.Cluster, address, identity string) *corev3.Address {
	if path, ok := serve.UnixPath(address); ok {
		return pipe(path)
	}
	at, err := splitHostPort(address)
	if err != nil {
		panic(packError{err})
	}
	if cluster.TransportSocket, err = envoy.MutualTLS(identity); err != nil {
		panic(packError{err})
	}
	if (backend{host: at.host}).isName() {
		cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	}
	return socket(at.host, at.port)
}

func oneOf(names []string) *matcherv3.ListStringMatcher {
	patterns := make([]*matcherv3.StringMatcher, len(names))
	for i, n := range names {
		patterns[i] = exactly(n)
	}
	return &matcherv3.ListStringMatcher{Patterns: patterns}
}
