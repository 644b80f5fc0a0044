package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token"
)

// Ways to prove itself that a client may be registered for, besides a secret
// (OpenID Connect Core §9, RFC 8705 §2).
const (
	privateKeyJWT = "private_key_jwt"
	tlsClientAuth = "tls_client_auth"
	selfSignedTLS = "self_signed_tls_client_auth"
)

func proofFrom(m *adminv1.ClientProof) store.ClientProof {
	p := store.ClientProof{
		Method: m.GetMethod(), JWKS: slices.Clone(m.GetJwks()), JWKSURI: m.GetJwksUri(), Algorithms: slices.Clone(m.GetAlgorithms()),
		Name:        store.CertificateName{SubjectDN: m.GetSubjectDn(), DNS: m.GetSanDns(), URI: m.GetSanUri(), IP: m.GetSanIp(), Email: m.GetSanEmail()},
		Thumbprints: slices.Clone(m.GetThumbprints()),
	}
	if p.Method == privateKeyJWT && len(p.Algorithms) == 0 {
		p.Algorithms = []string{string(token.ES256)}
	}
	return p
}

func proofMessage(p store.ClientProof) *adminv1.ClientProof {
	if p.Method == "" {
		return nil
	}
	return &adminv1.ClientProof{
		Method: p.Method, Jwks: p.JWKS, JwksUri: p.JWKSURI, Algorithms: p.Algorithms, Thumbprints: p.Thumbprints,
		SubjectDn: p.Name.SubjectDN, SanDns: p.Name.DNS, SanUri: p.Name.URI, SanIp: p.Name.IP, SanEmail: p.Name.Email,
	}
}

// checkProof reports what is wrong with how a client proves itself.
func checkProof(vs *conf.Violations, c store.Client) {
	p := c.Proof
	if p.Method != "" && c.Type != store.Confidential {
		vs.Add("proof.method", p.Method, "is for clients that can keep a key", "make the client confidential")
	}
	if p.Method == "" && (len(p.JWKS) > 0 || p.JWKSURI != "" || p.Name != store.CertificateName{} || len(p.Thumbprints) > 0) {
		vs.Add("proof.method", nil, "is missing beside keys or certificates", "write "+strings.Join([]string{privateKeyJWT, tlsClientAuth, selfSignedTLS}, ", "))
	}
	switch p.Method {
	case "":
	case privateKeyJWT:
		checkKeys(vs, p)
	case tlsClientAuth:
		named := 0
		for _, name := range []string{p.Name.SubjectDN, p.Name.DNS, p.Name.URI, p.Name.IP, p.Name.Email} {
			if name != "" {
				named++
			}
		}
		if named != 1 {
			vs.Add("proof.subject_dn", p.Name.SubjectDN, "is not the one name that the certificate must have (RFC 8705 §2.1.2)", "give a subject DN or one subject alternative name")
		}
	case selfSignedTLS:
		if len(p.Thumbprints) == 0 || slices.ContainsFunc(p.Thumbprints, func(t string) bool { return !token.IsThumbprint(t) }) {
			vs.Add("proof.thumbprints", strings.Join(p.Thumbprints, " "), "are not those of certificates", "write x5t#S256: the SHA-256 of the certificate in base64url")
		}
	default:
		vs.Add("proof.method", p.Method, "is no way to prove itself", "write "+strings.Join([]string{privateKeyJWT, tlsClientAuth, selfSignedTLS}, ", "))
	}
}

// isKeyURL tells whether a key set can be fetched from a URL.
func isKeyURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.Fragment == ""
}

// checkKeys wants one source of keys, with at least one that can be used.
func checkKeys(vs *conf.Violations, p store.ClientProof) {
	algorithms := make([]token.Algorithm, len(p.Algorithms))
	for i, name := range p.Algorithms {
		algorithms[i] = token.Algorithm(name)
		if !slices.Contains(token.Algorithms(), algorithms[i]) {
			vs.Add(fmt.Sprintf("proof.algorithms[%d]", i), name, "is no algorithm for assertions", fmt.Sprintf("write some of %v", token.Algorithms()))
			return
		}
	}
	switch {
	case (len(p.JWKS) > 0) == (p.JWKSURI != ""):
		vs.Add("proof.jwks", nil, "and jwks_uri are both there, or neither is", "give one of the two")
	case p.JWKSURI != "" && !isKeyURL(p.JWKSURI):
		vs.Add("proof.jwks_uri", p.JWKSURI, "is no URL of a key set", "write https://HOST/PATH, without user and fragment")
	case len(p.JWKS) > 0:
		if _, err := token.ParseKeySet(p.JWKS, algorithms); err != nil {
			vs.Add("proof.jwks", nil, "cannot be used: "+err.Error(), "give a JWK Set of public keys, each with a kid")
		}
	}
}
