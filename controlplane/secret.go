package controlplane

import (
	"crypto/tls"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// edgeSecret is the SDS name of the edge's certificate.
const edgeSecret = "edge"

// checkPair reports a certificate and key that Envoy would not take.
func checkPair(certificate, key []byte) error {
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		return fmt.Errorf("gateway.tls: the certificate and key do not do: %w", err)
	}
	return nil
}

func edgeCertificate(certificate, key []byte) *tlsv3.Secret {
	return &tlsv3.Secret{
		Name: edgeSecret,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(certificate),
			PrivateKey:       inline(key),
		}},
	}
}

func inline(content []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: content}}
}

// viaADS is where Envoy gets a resource that another one names.
func viaADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}
