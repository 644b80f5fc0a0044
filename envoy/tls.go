package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Names of the secrets that an Envoy has from its bootstrap.
const (
	// IdentitySecret is the Envoy's own certificate and key.
	IdentitySecret = "identity"
	// TrustSecret are the authorities of the parts that it calls.
	TrustSecret = "trust"
)

// MutualTLS is how an Envoy calls a part of Gatehouse: TLS 1.3 with its own
// certificate, to a server with exactly this SPIFFE id.
func MutualTLS(peer string) (*corev3.TransportSocket, error) {
	validation := &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext: &tlsv3.CertificateValidationContext{
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: tlsv3.SubjectAltNameMatcher_URI,
				Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: peer}},
			}},
		},
		ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: TrustSecret},
	}
	config, err := deterministic(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			AlpnProtocols:                  []string{"h2"},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: IdentitySecret}},
			ValidationContextType:          &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: validation},
		},
	})
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
