package issuer

import (
	"slices"

	"gatehouse.dev/gatehouse/token"
)

// proofMetadata says how clients may prove themselves and what their tokens can
// be bound to.
type proofMetadata struct {
	// RFC 9126 §5.
	PushEndpoint  string `json:"pushed_authorization_request_endpoint"`
	RequirePushed bool   `json:"require_pushed_authorization_requests"`
	// RFC 9449 §5.1.
	ProofAlgorithms []token.Algorithm `json:"dpop_signing_alg_values_supported"`
	// RFC 8705 §3.3 and §5.
	BoundToCertificates bool              `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	Aliases             map[string]string `json:"mtls_endpoint_aliases,omitempty"`
}

// describeProofs advertises exactly what works.
func describeProofs(c Config) proofMetadata {
	m := proofMetadata{PushEndpoint: c.URL + pathPush, RequirePushed: c.RequirePushedRequests, ProofAlgorithms: proofAlgorithms}
	if c.MTLSURL == "" {
		return m
	}
	m.BoundToCertificates = true
	m.Aliases = map[string]string{
		"token_endpoint": c.MTLSURL + pathToken, "revocation_endpoint": c.MTLSURL + pathRevoke,
		"introspection_endpoint": c.MTLSURL + pathIntrospect, "userinfo_endpoint": c.MTLSURL + pathUserinfo,
		"pushed_authorization_request_endpoint": c.MTLSURL + pathPush, "device_authorization_endpoint": c.MTLSURL + pathDevice,
	}
	return m
}

// authMethods are the ways in which confidential clients can prove themselves.
func authMethods(c Config) []string {
	methods := []string{methodBasic, methodPost, methodPrivateKeyJWT}
	if c.MTLSURL != "" {
		methods = append(methods, methodSelfSigned)
		if c.ClientAuthorities != "" {
			methods = append(methods, methodTLS)
		}
	}
	return slices.Clip(methods)
}

// assertionAlgorithms are what private_key_jwt may sign with, of which each
// client is registered for some.
func assertionAlgorithms() (names []string) {
	for _, algorithm := range token.Algorithms() {
		names = append(names, string(algorithm))
	}
	return names
}
