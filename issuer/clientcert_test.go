package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// party has a certificate, its own or an authority's.
type party struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newParty(t *testing.T, by *party, change func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: now, NotAfter: now.AddDate(0, 1, 0), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, Subject: pkix.Name{CommonName: "robot", Organization: []string{"Example"}},
	}
	change(template)
	if by == nil {
		by = &party{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{certificate, key}
}

func (p *party) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw}))
}

// shown is the header that Envoy writes for a chain.
func shown(chain ...*party) func(*http.Request) {
	text := ""
	for _, p := range chain {
		text += p.pem()
	}
	return header(certificateHeader, `Hash=00;Chain="`+url.PathEscape(text)+`"`)
}

func authority(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }

func same(*x509.Certificate) {}

func TestCertificateAuthentication(t *testing.T) {
	root := newParty(t, nil, authority)
	between := newParty(t, root, func(c *x509.Certificate) { authority(c); c.Subject.CommonName = "between" })
	stranger := newParty(t, nil, authority)
	robot := newParty(t, between, same)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *Config) { c.MTLSURL, c.ClientAuthorities = "https://mtls.example", conf.Path(file) })
	own := newParty(t, nil, same)
	client := store.Client{Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}}
	named := func(id string, name store.CertificateName) {
		c := client
		c.ID, c.Proof = id, store.ClientProof{Method: methodTLS, Name: name}
		s.register(c)
	}
	named("named", store.CertificateName{SubjectDN: "CN=robot,O=Example"})
	named("reordered", store.CertificateName{SubjectDN: "O=Example,CN=robot"})
	named("dns", store.CertificateName{DNS: "robot.example"})
	named("uri", store.CertificateName{URI: "spiffe://example/robot"})
	named("ip", store.CertificateName{IP: "192.0.2.7"})
	named("email", store.CertificateName{Email: "robot@example.com"})
	named("nameless", store.CertificateName{})
	pinned := client
	pinned.ID, pinned.BindToCertificate = "pinned", true
	pinned.Proof = store.ClientProof{Method: methodSelfSigned, Thumbprints: []string{token.CertificateThumbprint(own.certificate)}}
	s.register(pinned)
	sloppy := header(certificateHeader, `Hash=0`)
	for _, row := range []struct {
		clause, client string
		change         func(*http.Request)
		status         int
	}{
		{"RFC 8705 §2.1 as it should be", "named", shown(robot, between), 200},
		{"RFC 8705 §2.1 no certificate", "named", func(*http.Request) {}, 401},
		{"RFC 8705 §2.1 a chain that is not whole", "named", shown(robot), 401},
		{"RFC 8705 §2.1 the same name by another authority", "named", shown(newParty(t, stranger, same)), 401},
		{"RFC 8705 §2.1 the same name, self-signed", "named", shown(newParty(t, nil, same)), 401},
		{"RFC 8705 §2.1 another name", "named", shown(newParty(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "robots" })), 401},
		{"RFC 8705 §2.1 a name with more in it", "named", shown(newParty(t, root, func(c *x509.Certificate) { c.Subject.Country = []string{"DE"} })), 401},
		{"RFC 8705 §2.1 expired", "named", shown(newParty(t, root, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) })), 401},
		{"RFC 8705 §2.1 for servers", "named", shown(newParty(t, root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), 401},
		{"RFC 4514 §2.1 another order is another name", "reordered", shown(robot, between), 401},
		{"RFC 8705 §2.1.2 a DNS name", "dns", shown(newParty(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "robot.example"} })), 200},
		{"RFC 8705 §2.1.2 no wildcards", "dns", shown(newParty(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"*.example"} })), 401},
		{"RFC 8705 §2.1.2 a URI", "uri", shown(newParty(t, root, func(c *x509.Certificate) { c.URIs = uris("spiffe://example/robot") })), 200},
		{"RFC 8705 §2.1.2 a longer URI", "uri", shown(newParty(t, root, func(c *x509.Certificate) { c.URIs = uris("spiffe://example/robot/x") })), 401},
		{"RFC 8705 §2.1.2 an address", "ip", shown(newParty(t, root, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.7")} })), 200},
		{"RFC 8705 §2.1.2 an address as a DNS name", "ip", shown(newParty(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"192.0.2.7"} })), 401},
		{"RFC 8705 §2.1.2 an e-mail address", "email", shown(newParty(t, root, func(c *x509.Certificate) { c.EmailAddresses = []string{"robot@example.com"} })), 200},
		{"RFC 8705 §2.1.2 an e-mail address as a common name", "email", shown(newParty(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "robot@example.com" })), 401},
		{"RFC 8705 §2.1.2 a DNS name as a common name", "dns", shown(newParty(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "robot.example" })), 401},
		{"RFC 8705 §2.1.2 a name by another authority", "uri", shown(newParty(t, stranger, func(c *x509.Certificate) { c.URIs = uris("spiffe://example/robot") })), 401},
		{"a client without a name", "nameless", shown(robot, between), 401},
		{"RFC 8705 §2.2 the registered certificate", "pinned", shown(own), 200},
		{"RFC 8705 §2.2 another self-signed one", "pinned", shown(newParty(t, nil, same)), 401},
		{"RFC 8705 §2.2 one of the authority", "pinned", shown(robot, between), 401},
		{"two headers", "pinned", func(r *http.Request) {
			shown(own)(r)
			r.Header[certificateHeader] = append(r.Header[certificateHeader], "x")
		}, 401},
		{"two elements", "pinned", func(r *http.Request) {
			shown(own)(r)
			r.Header[certificateHeader][0] += "," + r.Header[certificateHeader][0]
		}, 401},
		{"no chain", "pinned", sloppy, 401},
		{"no PEM", "pinned", header(certificateHeader, `Chain="x"`), 401},
		{"a client with a secret", "machine", shown(own), 401},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.tokenWith(url.Values{"grant_type": {grantClientCredentials}, "client_id": {row.client}}, row.change)
			if a.StatusCode != row.status {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if row.status != 200 {
				s.oauthError(a, 401, codeInvalidClient)
			}
		})
	}
	issued := s.tokenWith(url.Values{"grant_type": {grantClientCredentials}, "client_id": {"pinned"}}, shown(own)).json(t)
	if c := s.claims(issued["access_token"]).Confirmation(); c.CertificateThumbprint != token.CertificateThumbprint(own.certificate) {
		t.Errorf("confirmation %+v", c)
	}
	if document := s.request("GET", pathDiscovery, "").json(t); document["tls_client_certificate_bound_access_tokens"] != true || document["mtls_endpoint_aliases"] == nil {
		t.Errorf("it is not advertised: %v", document["mtls_endpoint_aliases"])
	}
}

// Where no host for mutual TLS is configured the header is anybody's.
func TestCertificatesAreBelievedFromTheirHostAlone(t *testing.T) {
	s := newSite(t)
	own := newParty(t, nil, same)
	s.register(store.Client{
		ID: "pinned", Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"},
		Proof: store.ClientProof{Method: methodSelfSigned, Thumbprints: []string{token.CertificateThumbprint(own.certificate)}},
	})
	s.oauthError(s.tokenWith(url.Values{"grant_type": {grantClientCredentials}, "client_id": {"pinned"}}, shown(own)), 401, codeInvalidClient)
}

func uris(texts ...string) (all []*url.URL) {
	for _, text := range texts {
		u, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		all = append(all, u)
	}
	return all
}
