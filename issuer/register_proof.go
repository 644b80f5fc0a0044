package issuer

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// proofRegistration is how a client that registers itself proves itself, and
// what its tokens are bound to (OpenID Connect Registration §2, RFC 8705 §2 and
// §3.4, RFC 9449 §5.2).
type proofRegistration struct {
	AuthMethod        string          `json:"token_endpoint_auth_method,omitempty"`
	AuthAlgorithm     string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS              json.RawMessage `json:"jwks,omitempty"`
	JWKSURI           string          `json:"jwks_uri,omitempty"`
	SubjectDN         string          `json:"tls_client_auth_subject_dn,omitempty"`
	SANDNS            string          `json:"tls_client_auth_san_dns,omitempty"`
	SANURI            string          `json:"tls_client_auth_san_uri,omitempty"`
	SANIP             string          `json:"tls_client_auth_san_ip,omitempty"`
	SANEmail          string          `json:"tls_client_auth_san_email,omitempty"`
	BindToKey         bool            `json:"dpop_bound_access_tokens,omitempty"`
	BindToCertificate bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// hasKeys tells whether keys came with it; null is none.
func (m *proofRegistration) hasKeys() bool { return len(m.JWKS) > 0 && string(m.JWKS) != "null" }

// proof is how the client proves itself; what is wrong with it the rules for
// all clients tell.
func (m *proofRegistration) proof() (p store.ClientProof) {
	switch m.AuthMethod {
	case methodPrivateKeyJWT, methodTLS, methodSelfSigned:
		p.Method = m.AuthMethod
	default:
		return p
	}
	p.JWKSURI = m.JWKSURI
	if m.hasKeys() {
		p.JWKS = slices.Clone(m.JWKS)
	}
	switch m.AuthMethod {
	case methodPrivateKeyJWT:
		if p.Algorithms = assertionAlgorithms(); m.AuthAlgorithm != "" {
			p.Algorithms = []string{m.AuthAlgorithm}
		}
	case methodTLS:
		p.Name = store.CertificateName{SubjectDN: m.SubjectDN, DNS: m.SANDNS, URI: m.SANURI, IP: m.SANIP, Email: m.SANEmail}
	case methodSelfSigned:
		p.Thumbprints = thumbprintsOf(m.JWKS)
	}
	return p
}

// unsupported refuses proofs that this issuer cannot take, and keys that do not
// go with them. A jwks_uri that the client has already may stay.
func (m *proofRegistration) unsupported(c Config, was store.ClientProof, hosts []string) error {
	named := m.SubjectDN != "" || m.SANDNS != "" || m.SANURI != "" || m.SANIP != "" || m.SANEmail != ""
	byKey := m.AuthMethod == methodPrivateKeyJWT
	switch {
	case m.AuthMethod != "" && m.AuthMethod != methodNone && !slices.Contains(authMethods(c), m.AuthMethod):
		return fail(codeInvalidMetadata, "token_endpoint_auth_method is not one that can be registered")
	case m.AuthAlgorithm != "" && !byKey:
		return fail(codeInvalidMetadata, "token_endpoint_auth_signing_alg goes with private_key_jwt alone")
	case m.hasKeys() && !byKey && m.AuthMethod != methodSelfSigned:
		return fail(codeInvalidMetadata, "jwks goes with private_key_jwt and self_signed_tls_client_auth alone")
	case m.JWKSURI != "" && !byKey:
		return fail(codeInvalidMetadata, "jwks_uri goes with private_key_jwt alone")
	case m.JWKSURI != "" && m.JWKSURI != was.JWKSURI && (!strings.HasPrefix(m.JWKSURI, "https://") || !hostAllowed(m.JWKSURI, hosts)):
		return fail(codeInvalidMetadata, "jwks_uri is not https, or names a host that may not be registered")
	case named && m.AuthMethod != methodTLS:
		return fail(codeInvalidMetadata, "names of certificates go with tls_client_auth alone")
	case m.hasKeys() && hasPrivateKey(m.JWKS):
		return fail(codeInvalidMetadata, "jwks has a key that is not public: throw it away")
	case m.BindToCertificate && c.MTLSURL == "":
		return fail(codeInvalidMetadata, "tls_client_certificate_bound_access_tokens is not offered here")
	}
	return nil
}

// registeredProof describes how a client is stored to prove itself.
func registeredProof(c store.Client) proofRegistration {
	p := c.Proof
	m := proofRegistration{
		AuthMethod: p.Method, JWKS: p.JWKS, JWKSURI: p.JWKSURI, BindToKey: c.BindToKey, BindToCertificate: c.BindToCertificate,
		SubjectDN: p.Name.SubjectDN, SANDNS: p.Name.DNS, SANURI: p.Name.URI, SANIP: p.Name.IP, SANEmail: p.Name.Email,
	}
	switch {
	case c.Type != store.Confidential:
		m.AuthMethod = methodNone
	case p.Method == "":
		m.AuthMethod = methodBasic
	}
	if len(p.Algorithms) == 1 {
		m.AuthAlgorithm = p.Algorithms[0]
	}
	return m
}

// keysOf are the members of the keys of a JWK Set; those of another form are
// left to the reader of key sets.
func keysOf(jwks json.RawMessage) []map[string]json.RawMessage {
	var set struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(jwks, &set) != nil {
		return nil
	}
	return set.Keys
}

// privateMembers are in private and symmetric keys alone (RFC 7518 §6.2.2,
// §6.3.2 and §6.4, RFC 8037 §2).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

func hasPrivateKey(jwks json.RawMessage) bool {
	return slices.ContainsFunc(keysOf(jwks), func(key map[string]json.RawMessage) bool {
		return slices.ContainsFunc(privateMembers, func(name string) bool { _, there := key[name]; return there })
	})
}

// thumbprintsOf are those of the certificates of a JWK Set: the first of each
// x5c (RFC 8705 §2.2.2, RFC 7517 §4.7). A key without one makes none.
func thumbprintsOf(jwks json.RawMessage) (thumbprints []string) {
	for _, key := range keysOf(jwks) {
		var chain []string
		if json.Unmarshal(key["x5c"], &chain) != nil || len(chain) == 0 {
			return nil
		}
		der, err := base64.StdEncoding.Strict().DecodeString(chain[0])
		if err != nil {
			return nil
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		thumbprints = append(thumbprints, token.CertificateThumbprint(certificate))
	}
	return thumbprints
}
