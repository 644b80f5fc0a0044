package controlplane

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// systemCA is where the Envoy image and Debian's family keep the public
// authorities.
const systemCA = "/etc/ssl/certs/ca-certificates.crt"

// ciphers of TLS 1.2 are those with forward secrecy and authenticated
// encryption (RFC 9325 §4.2); TLS 1.3 has no others.
var ciphers = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
	"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
}

func tlsVersions() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
		// As a client, Envoy stops at 1.2 unless told.
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		CipherSuites:              ciphers,
	}
}

func edgeTLS() *corev3.TransportSocket {
	return transportSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:     tlsVersions(),
			AlpnProtocols: []string{"h2", "http/1.1"},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
				Name: edgeSecret, SdsConfig: viaADS(),
			}},
		},
	})
}

// serviceTLS verifies the back end's certificate against its host; without it
// Envoy would take any.
func serviceTLS(b backend, authorities []byte) *corev3.TransportSocket {
	trusted := inline(authorities)
	if authorities == nil {
		trusted = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: systemCA}}
	}
	validation := &tlsv3.CertificateValidationContext{
		TrustedCa: trusted,
		MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
			SanType: sanType(b), Matcher: exactly(b.host),
		}},
	}
	context := &tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:             tlsVersions(),
			AlpnProtocols:         []string{"h2", "http/1.1"},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
		},
	}
	if b.isName() {
		context.Sni = b.host // an IP address is no SNI (RFC 6066 §3)
	}
	return transportSocket(context)
}

func sanType(b backend) tlsv3.SubjectAltNameMatcher_SanType {
	if b.isName() {
		return tlsv3.SubjectAltNameMatcher_DNS
	}
	return tlsv3.SubjectAltNameMatcher_IP_ADDRESS
}

func transportSocket(context proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(context)},
	}
}

func exactly(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}
