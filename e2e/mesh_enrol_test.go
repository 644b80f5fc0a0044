package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	joins "gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// readJoin reads a join token's file.
func readJoin(t *testing.T, file string) joins.JoinToken {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token, err := joins.ParseJoinToken(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// enrol sends a request straight to the enrolment listener.
func enrol(t *testing.T, s *harness.System, token joins.JoinToken, csr []byte) (*workloadv1.EnrolResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(s.Config().Text("controlplane.enrolment_listen"),
		grpc.WithTransportCredentials(credentials.NewTLS(token.TLS(envoy.ControlPlaneIdentity(trustDomain), time.Now))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return workloadv1.NewEnrolmentClient(conn).Enrol(ctx, &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr})
}

// expectRefused finds a refusal that says nothing to the peer, and its reason in
// the CA's log.
func expectRefused(t *testing.T, s *harness.System, name, reason string, call func() error) {
	t.Helper()
	mark := s.Process(harness.ControlPlane).Logged()
	err := call()
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "refused" {
		t.Errorf("%s: %v", name, err)
	}
	if said := s.Process(harness.ControlPlane).LogSince(mark); !strings.Contains(said, reason) {
		t.Errorf("%s: the log does not say %q:\n%s", name, reason, said)
	}
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// request is a PKCS #10 request for ids, with whatever more it is made to have.
func request(t *testing.T, key crypto.Signer, ids []string, more func(*x509.CertificateRequest)) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	for _, id := range ids {
		uri, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	if more != nil {
		more(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// What a workload may ask for is one certificate of its own SPIFFE id for a good
// key; whatever it asks for beside that, it gets nothing, and the token stays
// good.
func TestMeshEnrolmentRequests(t *testing.T) {
	s := enrolmentSite(t)
	key := newKey(t, elliptic.P256())
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	mine := []string{ordersID}
	broken := request(t, key, mine, nil)
	broken[len(broken)-1] ^= 1
	token := readJoin(t, s.JoinToken(t, ordersID))
	for _, row := range []struct {
		name, reason string
		csr          []byte
	}{
		{"a host", "1 URI SANs and 1 others", request(t, key, mine, func(r *x509.CertificateRequest) { r.DNSNames = []string{"orders.local"} })},
		{"an address", "1 URI SANs and 1 others", request(t, key, mine, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })},
		{"mail", "1 URI SANs and 1 others", request(t, key, mine, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@orders.local"} })},
		{"another's id, too", "2 URI SANs and 0 others", request(t, key, []string{ordersID, profileID}, nil)},
		{"its id twice", "2 URI SANs and 0 others", request(t, key, []string{ordersID, ordersID}, nil)},
		{"no id", "0 URI SANs and 0 others", request(t, key, nil, nil)},
		{"another's id", "the CSR is for", request(t, key, []string{profileID}, nil)},
		{"the edge's id", "the CSR is for", request(t, key, []string{edgeID}, nil)},
		{"an id that begins alike", "the CSR is for", request(t, key, []string{ordersID + "/2"}, nil)},
		{"another trust domain", "the CSR is for", request(t, key, []string{"spiffe://other.local/service/orders"}, nil)},
		{"to be an authority", "asks for extension 2.5.29.19", request(t, key, mine, func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		})},
		{"an RSA key", "use ECDSA P-256 or Ed25519", request(t, weak, mine, nil)},
		{"a weak curve", "on curve P-224", request(t, newKey(t, elliptic.P224()), mine, nil)},
		{"a broken signature", "not signed by its own key", broken},
		{"no request", "cannot be read", []byte("certificate, please")},
		{"a long one", "more than 4096", make([]byte, 5000)},
	} {
		expectRefused(t, s, row.name, row.reason, func() error {
			_, err := enrol(t, s, token, row.csr)
			return err
		})
	}
	got, err := enrol(t, s, token, request(t, key, mine, nil))
	if err != nil || len(got.GetSvid().GetChain()) == 0 {
		t.Fatalf("a good request gets nothing: %v", err)
	}
	leaf, err := x509.ParseCertificate(got.GetSvid().GetChain()[0])
	if err != nil || len(leaf.URIs) != 1 || leaf.URIs[0].String() != ordersID || leaf.IsCA || len(leaf.DNSNames) > 0 {
		t.Errorf("it gets %+v %v", leaf, err)
	}
}

// enrolmentSite runs no more than the CA needs.
func enrolmentSite(t *testing.T) *harness.System {
	t.Helper()
	m := harness.PrepareMesh(t, harness.Options{})
	m.StartPart(t, harness.Issuer)
	m.StartPart(t, harness.ControlPlane)
	return m.System
}

// Join tokens at the CA, which does not rely on what workloads check: used,
// ended, of nobody, of somebody else.
func TestMeshJoinTokensAtTheCA(t *testing.T) {
	s := enrolmentSite(t)
	csr := request(t, newKey(t, elliptic.P256()), []string{ordersID}, nil)
	used := readJoin(t, s.JoinToken(t, ordersID))
	if _, err := enrol(t, s, used, csr); err != nil {
		t.Fatal(err)
	}
	invented := used
	invented.Secret = strings.Repeat("A", len(used.Secret))
	short := readJoin(t, s.JoinToken(t, ordersID, "--life", "1s"))
	harness.Eventually(t, 5*time.Second, func() error {
		if left := time.Until(short.ExpiresAt); left > -time.Second { // the text has whole seconds
			return fmt.Errorf("it has %v left", left)
		}
		return nil
	})
	for _, row := range []struct {
		name, reason string
		token        joins.JoinToken
	}{
		{"used before", "was used before", used},
		{"ended", "expired at", short},
		{"nobody's", "there is no such join token", invented},
		{"profile's", "the CSR is for", readJoin(t, s.JoinToken(t, profileID))},
	} {
		expectRefused(t, s, row.name, row.reason, func() error {
			_, err := enrol(t, s, row.token, csr)
			return err
		})
	}
	if log := s.Process(harness.ControlPlane).Log(); strings.Contains(log, used.Secret) || strings.Contains(log, short.Secret) {
		t.Error("the log has a token's secret")
	}
}

// A workload sends its token to the CA that made it and to nobody else: with
// another fingerprint, the CA hears nothing, and the token stays good. One that
// has ended is not sent at all.
func TestMeshJoinTokensAtTheSidecar(t *testing.T) {
	s := enrolmentSite(t)
	good := readJoin(t, s.JoinToken(t, ordersID))
	wrong, ended := good, good
	wrong.Roots = []joins.Fingerprint{good.Roots[0]}
	wrong.Roots[0][0] ^= 1
	ended.ExpiresAt = time.Now().Add(-time.Minute)
	mark := s.Process(harness.ControlPlane).Logged()
	for name, row := range map[string]struct{ text, want string }{
		"wrong-fingerprint": {wrong.Encode(), "has another fingerprint than the join token says"},
		"ended":             {ended.Encode(), "ended at"},
		"half":              {good.Encode()[:len(good.Encode())/2], "the join token is not whole"},
	} {
		file := filepath.Join(t.TempDir(), "join")
		if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := s.NewSidecar(t, harness.OrdersService, name)
		c.Launch(t, "--join-token", file)
		harness.Eventually(t, 10*time.Second, func() error {
			if !strings.Contains(c.Process.Log(), row.want) {
				return fmt.Errorf("%s: %q is not said:\n%s", name, row.want, c.Process.Log())
			}
			return nil
		})
		if c.Ready() == nil {
			t.Errorf("%s: it serves", name)
		}
		c.Process.Stop(t)
		if strings.Contains(c.Process.Log(), good.Secret) {
			t.Errorf("%s: the token's secret is in the log", name)
		}
	}
	if said := s.Process(harness.ControlPlane).LogSince(mark); strings.Contains(said, "refused a call") || strings.Contains(said, "issued a certificate") {
		t.Errorf("a token was sent:\n%s", said)
	}
	if _, err := enrol(t, s, good, request(t, newKey(t, elliptic.P256()), []string{ordersID}, nil)); err != nil {
		t.Errorf("the token is not good any more: %v", err)
	}
}
