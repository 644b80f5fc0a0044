package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names of the secrets that an Envoy has from its agent.
const (
	// IdentitySecret is the Envoy's own certificate and key.
	IdentitySecret = "identity"
	// TrustSecret are the authorities of the trust domain.
	TrustSecret = "trust"
)

// AgentCluster is the bootstrap's cluster of the agent beside the Envoy, which
// serves the two secrets (SDS) over a Unix socket.
const AgentCluster = "agent"

// tls13 is the one version inside the gate: all who speak there are ours.
func tls13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

// MutualTLS is how an Envoy calls a part of Gatehouse or another Envoy: TLS 1.3
// with its own certificate, to a server with exactly this SPIFFE id. It offers
// HTTP/2 alone.
func MutualTLS(peer string) (*corev3.TransportSocket, error) {
	return transportSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: mutualContext([]string{"h2"}, peer)})
}

// MutualTLSServer is how an Envoy is called by another one: TLS 1.3, where the
// client proves itself under the trust bundle and, where peers are given, has
// exactly one of these SPIFFE ids. A session is never resumed, so that each
// connection is judged by the bundle of its own time.
func MutualTLSServer(peers ...string) (*corev3.TransportSocket, error) {
	return transportSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         mutualContext([]string{"h2", "http/1.1"}, peers...),
		RequireClientCertificate: wrapperspb.Bool(true),
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
			DisableStatelessSessionResumption: true,
		},
		DisableStatefulSessionResumption: true,
	})
}

// mutualContext is one end of mutual TLS with the agent's secrets. Without
// peers any identity of the trust domain is taken.
func mutualContext(protocols []string, peers ...string) *tlsv3.CommonTlsContext {
	names := make([]*tlsv3.SubjectAltNameMatcher, len(peers))
	for i, peer := range peers {
		names[i] = &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: peer}},
		}
	}
	validation := &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
		ValidationContextSdsSecretConfig: fromAgent(TrustSecret),
	}
	return &tlsv3.CommonTlsContext{
		TlsParams:                      tls13(),
		AlpnProtocols:                  protocols,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fromAgent(IdentitySecret)},
		ValidationContextType:          &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: validation},
	}
}

// fromAgent is a secret that the Envoy's agent serves, and renews by itself.
func fromAgent(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: AgentCluster,
					RetryPolicy: quickRetry(),
				}},
			}},
			SetNodeOnFirstMessageOnly: true,
		}},
	}}
}

// quickRetry is how soon a server that came back is found; up to 30 s unless
// told.
func quickRetry() *corev3.RetryPolicy {
	return &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
		BaseInterval: durationpb.New(200 * time.Millisecond), MaxInterval: durationpb.New(2 * time.Second),
	}}
}

func transportSocket(context proto.Message) (*corev3.TransportSocket, error) {
	config, err := deterministic(context)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

// deterministic packs equal messages into equal bytes, which anypb.New does
// not.
func deterministic(m proto.Message) (*anypb.Any, error) {
	packed := new(anypb.Any)
	return packed, anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true})
}
