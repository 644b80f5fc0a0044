package controlplane

import (
	"net/url"
	"regexp"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"gatehouse.dev/gatehouse/internal/conf"
)

// certificateHeader is where the issuer reads which certificate a client
// showed. Envoy writes it anew on the host for mutual TLS and takes it off
// everywhere else; services never see it.
const certificateHeader = "x-forwarded-client-cert"

// addMutual adds the host for mutual TLS (RFC 8705 §5) to the edge: by its
// SNI, so that browsers, which come by the other name, are never asked for a
// certificate.
func (in *Inputs) addMutual(edge *listenerv3.Listener) {
	if in.Gateway.MTLSHost == "" {
		return
	}
	check := checkFilter()
	check.IncludePeerCertificate = true
	manager := in.edgeManager("edge-mtls", check)
	manager.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	manager.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Chain: true}
	chain := chainOf(manager, mutualTLS())
	chain.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: []string{in.Gateway.MTLSHost}}
	edge.FilterChains = append([]*listenerv3.FilterChain{chain}, edge.FilterChains...)
	edge.ListenerFilters = append(edge.ListenerFilters, &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(&inspectorv3.TlsInspector{})},
	})
}

// mutualTLS takes any certificate that its client has the private key of:
// whom it names, and who vouches for it, is for the issuer to judge by how the
// client is registered (RFC 8705 §2), and a bound token names the certificate
// itself (§3). Where chains are not verified Envoy only asks for one; a client
// without any proves nothing, and Envoy takes the header off its requests.
// Sessions are not resumed: a resumed one shows no certificate again.
func mutualTLS() *corev3.TransportSocket {
	return transportSocket(&tlsv3.DownstreamTlsContext{
		RequireClientCertificate:         yes(),
		DisableStatefulSessionResumption: true,
		SessionTicketKeysType:            &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      tlsVersions(),
			AlpnProtocols:                  []string{"h2", "http/1.1"},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: edgeSecret, SdsConfig: viaADS()}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustChainVerification: tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
			}},
		},
	})
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// validateMTLS reports a host for mutual TLS that could not be told from the
// gateway's own.
func (g *Gateway) validateMTLS() (vs conf.Violations) {
	if g.MTLSHost == "" {
		return nil
	}
	if !hostName.MatchString(g.MTLSHost) || len(g.MTLSHost) > 253 {
		vs.Add("mtls_host", g.MTLSHost, "is no host name in lower case", "write one such as mtls.example.com, without a port")
	}
	if public, err := url.Parse(g.PublicURL); err == nil && public.Hostname() == g.MTLSHost {
		vs.Add("mtls_host", g.MTLSHost, "is also the host of public_url: browsers would be asked for certificates", "give it a name of its own")
	}
	return vs
}
