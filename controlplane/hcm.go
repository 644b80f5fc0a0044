package controlplane

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"gatehouse.dev/gatehouse/envoy"
)

const routerFilter = "envoy.filters.http.router"

// Bounds on what a client may hold open; without them Envoy waits forever.
const (
	handshakeTimeout  = 10 * time.Second
	headersTimeout    = 10 * time.Second
	streamIdle        = 5 * time.Minute
	connectionIdle    = 5 * time.Minute
	maxConnectionAge  = time.Hour
	maxHeaders        = 100
	maxHeaderKilobyte = 32
)

// requestTimeout is until a request has wholly arrived, or its response begins:
// then Envoy waits no more, and the route's bound counts. A variable, that a
// test need not wait.
var requestTimeout = 60 * time.Second

// connectionManager is how the edge speaks HTTP with clients it does not trust.
func connectionManager(stats, routes string, filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: stats,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: viaADS(), RouteConfigName: routes,
		}},
		HttpFilters: filters,
		AccessLog:   accessLog(),
	}
	normalisePaths(m)
	limit(m)
	trustNothing(m)
	return m
}

// normalisePaths makes one spelling of each path, once, and refuses those that
// servers read differently; reject has a route for the rest.
func normalisePaths(m *hcmv3.HttpConnectionManager) {
	m.NormalizePath = yes()
	m.MergeSlashes = true
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	m.StripPortMode = &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true}
	m.StripTrailingHostDot = true
}

func limit(m *hcmv3.HttpConnectionManager) {
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		IdleTimeout:           seconds(connectionIdle),
		MaxConnectionDuration: seconds(maxConnectionAge),
		MaxHeadersCount:       number(maxHeaders),
		// x_gatehouse_subject is x-gatehouse-subject to CGI and its heirs.
		HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
	}
	m.Http2ProtocolOptions = http2()
	m.MaxRequestHeadersKb = number(maxHeaderKilobyte)
	m.RequestHeadersTimeout = seconds(headersTimeout)
	m.RequestTimeout = seconds(requestTimeout)
	m.StreamIdleTimeout = seconds(streamIdle)
}

// trustNothing takes no client's word for who it is. internal_address_config
// stays unset: present but empty it makes loopback clients internal, whose
// x-envoy-* are obeyed.
func trustNothing(m *hcmv3.HttpConnectionManager) {
	m.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{earlyStrip(envoy.AssertionHeader, envoy.NarrowHeader, "x-forwarded-for")}
	m.UseRemoteAddress = yes()
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE
	m.AlwaysSetRequestIdInResponse = true
	// Clients do not learn what software answers: services' Server headers pass
	// the manager and are removed by the routes, Envoy's own is not added.
	m.ServerHeaderTransformation = hcmv3.HttpConnectionManager_PASS_THROUGH
}

func router() *routerv3.Router { return &routerv3.Router{SuppressEnvoyHeaders: true} }
