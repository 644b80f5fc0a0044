package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token"
)

// proofFlags say how a new client proves itself.
type proofFlags struct {
	proof        adminv1.ClientProof
	jwks         string
	certificates []string
}

func (p *proofFlags) flags(c *cobra.Command, client *adminv1.Client) {
	f := c.Flags()
	f.StringVar(&p.proof.Method, "auth-method", "", "how it proves itself without a secret: private_key_jwt, tls_client_auth or self_signed_tls_client_auth")
	f.StringVar(&p.jwks, "jwks", "", "the file with its JWK Set, for private_key_jwt")
	f.StringVar(&p.proof.JwksUri, "jwks-uri", "", "where its JWK Set is fetched, for private_key_jwt")
	f.StringArrayVar(&p.proof.Algorithms, "assertion-algorithm", nil, "what private_key_jwt may sign with; may be repeated (default ES256)")
	f.StringVar(&p.proof.SubjectDn, "tls-subject-dn", "", "the subject of its certificate (RFC 4514), for tls_client_auth")
	f.StringVar(&p.proof.SanDns, "tls-san-dns", "", "the DNS name in its certificate, for tls_client_auth")
	f.StringVar(&p.proof.SanUri, "tls-san-uri", "", "the URI in its certificate, for tls_client_auth")
	f.StringVar(&p.proof.SanIp, "tls-san-ip", "", "the IP address in its certificate, for tls_client_auth")
	f.StringVar(&p.proof.SanEmail, "tls-san-email", "", "the e-mail address in its certificate, for tls_client_auth")
	f.StringArrayVar(&p.certificates, "tls-certificate", nil, "the PEM file of its certificate, for self_signed_tls_client_auth; may be repeated")
	f.BoolVar(&client.RequirePushed, "require-pushed", false, "take authorization requests alone that it pushed (RFC 9126)")
	f.BoolVar(&client.BindToKey, "bind-to-key", false, "give it tokens alone that are bound to a DPoP key (RFC 9449)")
	f.BoolVar(&client.BindToCertificate, "bind-to-certificate", false, "give it tokens alone that are bound to its TLS certificate (RFC 8705)")
}

// complete reads the files that the flags name.
func (p *proofFlags) complete(client *adminv1.Client) (err error) {
	if p.jwks != "" {
		if p.proof.Jwks, err = os.ReadFile(p.jwks); err != nil {
			return fmt.Errorf("reading --jwks: %w", err)
		}
	}
	for _, file := range p.certificates {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading --tls-certificate: %w", err)
		}
		block, _ := pem.Decode(content)
		if block == nil || block.Type != "CERTIFICATE" {
			return usage(fmt.Sprintf("--tls-certificate %q holds no PEM certificate", file))
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("reading --tls-certificate %q: %w", file, err)
		}
		p.proof.Thumbprints = append(p.proof.Thumbprints, token.CertificateThumbprint(certificate))
	}
	client.Proof = &p.proof
	return nil
}
