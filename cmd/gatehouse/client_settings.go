package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token"
)

// clientSettings are what a client can be told, in one table: adding, changing
// and showing a client all go by it.
type clientSettings struct {
	client   *adminv1.Client
	proof    *adminv1.ClientProof
	lifetime time.Duration
	// jwks and certificates are files.
	jwks         string
	certificates []string
	table        []setting
}

// setting is one of them.
type setting struct {
	flag string
	// field is its name in adminv1.Client; those of a ClientProof begin with
	// proof and a dot.
	field string
	// into is where the flag goes: a *string, *[]string, *bool,
	// *map[string]string or *time.Duration.
	into  any
	usage string
	// shown is what it is shown as, where that is not what the flag takes.
	shown func() string
}

// settingsOf are the settings of a client, which is changed by its flags.
func settingsOf(c *adminv1.Client) *clientSettings {
	s := &clientSettings{client: c, proof: proto.CloneOf(c.GetProof()), lifetime: c.GetAccessTokenLifetime().AsDuration()}
	if s.proof == nil {
		s.proof = &adminv1.ClientProof{}
	}
	p := s.proof
	s.table = []setting{
		{flag: "name", field: "name", into: &c.Name, usage: "its name, as people are shown it when they consent (default: its id)"},
		{flag: "scope", field: "scopes", into: &c.Scopes, usage: "a scope that it may ask for; may be repeated"},
		{flag: "grant", field: "grant_types", into: &c.GrantTypes, usage: "a grant type that it may use; may be repeated"},
		{flag: "redirect-uri", field: "redirect_uris", into: &c.RedirectUris, usage: "where people come back to after the login; may be repeated (native: http://127.0.0.1/callback)"},
		{flag: "post-logout-redirect-uri", field: "post_logout_redirect_uris", into: &c.PostLogoutRedirectUris, usage: "where people may come back to after a logout; may be repeated"},
		{flag: "backchannel-logout-uri", field: "backchannel_logout_uri", into: &c.BackchannelLogoutUri, usage: "what is told, by a logout token, when a session of the client's ends"},
		{flag: "access-token-lifetime", field: "access_token_lifetime", into: &s.lifetime, usage: "the longest life of its access tokens (default: as long as their APIs allow)"},
		{flag: "id-token-algorithm", field: "id_token_algorithm", into: &c.IdTokenAlgorithm, usage: "what signs its ID tokens, among issuer.keys.algorithms (default ES256)"},
		{flag: "introspection-algorithm", field: "introspection_algorithm", into: &c.IntrospectionAlgorithm, usage: "what signs the introspections that it asks for as a JWT, among issuer.keys.algorithms (default ES256)"},
		{flag: "attribute", field: "attributes", into: &c.Attributes, usage: "what is known of it beside, as NAME=VALUE, for the claims of APIs; may be repeated"},
		{flag: "require-pushed", field: "require_pushed", into: &c.RequirePushed, usage: "take authorization requests alone that it pushed (RFC 9126)"},
		{flag: "bind-to-key", field: "bind_to_key", into: &c.BindToKey, usage: "give it tokens alone that are bound to a DPoP key (RFC 9449)"},
		{flag: "bind-to-certificate", field: "bind_to_certificate", into: &c.BindToCertificate, usage: "give it tokens alone that are bound to its TLS certificate (RFC 8705)"},
		{flag: "auth-method", field: "proof.method", into: &p.Method, usage: "how it proves itself: private_key_jwt, tls_client_auth or self_signed_tls_client_auth; secret (the default): by its secret"},
		{flag: "jwks", field: "proof.jwks", into: &s.jwks, usage: "the file with its JWK Set, for private_key_jwt", shown: func() string { return string(p.GetJwks()) }},
		{flag: "jwks-uri", field: "proof.jwks_uri", into: &p.JwksUri, usage: "where its JWK Set is fetched, for private_key_jwt"},
		{flag: "assertion-algorithm", field: "proof.algorithms", into: &p.Algorithms, usage: "what private_key_jwt may sign with; may be repeated (default ES256)"},
		{flag: "tls-subject-dn", field: "proof.subject_dn", into: &p.SubjectDn, usage: "the subject of its certificate (RFC 4514), for tls_client_auth"},
		{flag: "tls-san-dns", field: "proof.san_dns", into: &p.SanDns, usage: "the DNS name in its certificate, for tls_client_auth"},
		{flag: "tls-san-uri", field: "proof.san_uri", into: &p.SanUri, usage: "the URI in its certificate, for tls_client_auth"},
		{flag: "tls-san-ip", field: "proof.san_ip", into: &p.SanIp, usage: "the IP address in its certificate, for tls_client_auth"},
		{flag: "tls-san-email", field: "proof.san_email", into: &p.SanEmail, usage: "the e-mail address in its certificate, for tls_client_auth"},
		{flag: "tls-certificate", field: "proof.thumbprints", into: &s.certificates, usage: "the PEM file of its certificate, for self_signed_tls_client_auth; may be repeated", shown: func() string { return list(p.GetThumbprints()) }},
	}
	return s
}

// flags registers a flag for each setting.
func (s *clientSettings) flags(c *cobra.Command) {
	f := c.Flags()
	for _, row := range s.table {
		switch into := row.into.(type) {
		case *string:
			f.StringVar(into, row.flag, "", row.usage)
		case *[]string:
			f.StringArrayVar(into, row.flag, nil, row.usage)
		case *map[string]string:
			f.StringToStringVar(into, row.flag, nil, row.usage)
		case *bool:
			f.BoolVar(into, row.flag, false, row.usage)
		case *time.Duration:
			f.DurationVar(into, row.flag, 0, row.usage)
		}
	}
}

// complete reads the files that flags name and puts together what they say.
func (s *clientSettings) complete() (err error) {
	if s.proof.Method == "secret" {
		s.proof.Method = ""
	}
	if s.jwks != "" {
		if s.proof.Jwks, err = os.ReadFile(s.jwks); err != nil {
			return fmt.Errorf("reading --jwks: %w", err)
		}
	}
	for _, file := range s.certificates {
		thumbprint, err := thumbprintOf(file)
		if err != nil {
			return err
		}
		s.proof.Thumbprints = append(s.proof.Thumbprints, thumbprint)
	}
	s.client.Proof = s.proof
	if s.lifetime != 0 {
		s.client.AccessTokenLifetime = durationpb.New(s.lifetime)
	}
	return nil
}

func thumbprintOf(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading --tls-certificate: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", usage(fmt.Sprintf("--tls-certificate %q holds no PEM certificate", file))
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("reading --tls-certificate %q: %w", file, err)
	}
	return token.CertificateThumbprint(certificate), nil
}

// fields are the fields of a client, and of its proof, that the flags set, by
// flag.
func (s *clientSettings) fields() map[string]string {
	fields := map[string]string{}
	for _, row := range s.table {
		fields[row.flag] = row.field
	}
	return fields
}

// pairs are the settings for people, named like their flags.
func (s *clientSettings) pairs() (pairs [][2]string) {
	for _, row := range s.table {
		pairs = append(pairs, [2]string{row.flag, row.text()})
	}
	return pairs
}

func (s setting) text() string {
	if s.shown != nil {
		return s.shown()
	}
	switch into := s.into.(type) {
	case *string:
		return *into
	case *[]string:
		return list(*into)
	case *map[string]string:
		return attributes(*into)
	case *bool:
		return yes(*into)
	case *time.Duration:
		if *into != 0 {
			return into.String()
		}
	}
	return ""
}
