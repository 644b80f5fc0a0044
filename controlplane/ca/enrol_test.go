package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// TestEnrolAndRenew is the honest way, and the form of what it gives
// (X509-SVID §2 to §5).
func TestEnrolAndRenew(t *testing.T) {
	r := newRig(t)
	h := r.enrol(orders)
	check := func(chain []*x509.Certificate) {
		t.Helper()
		leaf := chain[0]
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != orders {
			t.Errorf("URI SANs %v", leaf.URIs)
		}
		if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 2 {
			t.Errorf("CA %v, usage %v %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		if got := leaf.NotAfter.Sub(r.now()); got > time.Hour || got < time.Hour-2*time.Second {
			t.Errorf("it lives for %s", got)
		}
		if got := r.now().Sub(leaf.NotBefore); got < time.Minute-2*time.Second {
			t.Errorf("it is backdated by %s", got)
		}
		if err := verifyChain(chain, r.Roots(), r.now()); err != nil {
			t.Error(err)
		}
	}
	check(h.chain)
	first := h.chain[0].SerialNumber
	r.advance(30 * time.Minute)
	request, next := h.renewal(t)
	answer, err := r.enrolment(r.token(orders)).Renew(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	h.key = next
	h.take(t, answer.GetSvid())
	check(h.chain)
	if h.chain[0].SerialNumber.Cmp(first) == 0 {
		t.Error("two certificates have one serial number")
	}
	if bundle := answer.GetSvid().GetBundle(); bundle.GetTrustDomain() != domain || len(bundle.GetRoots()) != 1 || bundle.GetSequence() == 0 {
		t.Errorf("the bundle is %v", bundle)
	}
}

// An Ed25519 key enrols and renews as a P-256 key does.
func TestEd25519(t *testing.T) {
	r := newRig(t)
	token := r.token(orders)
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	client := r.enrolment(token)
	answer, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(t, key, orders)})
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{id: orders, key: key}
	h.take(t, answer.GetSvid())
	request, _ := h.renewal(t)
	if _, err := client.Renew(t.Context(), request); err != nil {
		t.Error(err)
	}
}

// An outage of a day needs no human.
func TestRenewAfterItsEnd(t *testing.T) {
	r := newRig(t)
	h := r.enrol(orders)
	r.advance(time.Hour + 23*time.Hour)
	request, _ := h.renewal(t)
	if _, err := r.enrolment(r.token(orders)).Renew(t.Context(), request); err != nil {
		t.Error(err)
	}
}

// refusals are told apart in the log alone: the peer hears one word.
func (r *rig) wantRefusal(err error, reason string) {
	r.t.Helper()
	if got := status.Convert(err); got.Code() != codes.PermissionDenied || got.Message() != "refused" {
		r.t.Errorf("%v: %q, want PermissionDenied, refused", got.Code(), got.Message())
	}
	if err := r.refusedFor(reason); err != nil {
		r.t.Error(err)
	}
}

func TestJoinTokensAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		reason string
		try    func(r *rig, token workload.JoinToken) (secret, id string)
	}{
		"used twice": {"was used before", func(r *rig, token workload.JoinToken) (string, string) {
			if _, err := r.enrolment(token).Enrol(r.t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(r.t, newKey(r.t), orders)}); err != nil {
				r.t.Fatal(err)
			}
			return token.Secret, orders
		}},
		"used before a restart": {"was used before", func(r *rig, token workload.JoinToken) (string, string) {
			if _, err := r.enrolment(token).Enrol(r.t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(r.t, newKey(r.t), orders)}); err != nil {
				r.t.Fatal(err)
			}
			r.restart()
			return token.Secret, orders
		}},
		"expired": {"expired at", func(r *rig, token workload.JoinToken) (string, string) {
			r.advance(10 * time.Minute)
			return token.Secret, orders
		}},
		"for another service": {"the CSR is for", func(r *rig, token workload.JoinToken) (string, string) {
			return token.Secret, other
		}},
		"invented": {"there is no such join token", func(r *rig, token workload.JoinToken) (string, string) {
			return strings.Repeat("A", len(token.Secret)), orders
		}},
		"empty":    {"there is no such join token", func(*rig, workload.JoinToken) (string, string) { return "", orders }},
		"too long": {"too long", func(*rig, workload.JoinToken) (string, string) { return strings.Repeat("A", 4000), orders }},
		"of a revoked workload": {"was revoked", func(r *rig, token workload.JoinToken) (string, string) {
			if _, err := r.admin().Revoke(r.t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
				r.t.Fatal(err)
			}
			return token.Secret, orders
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			token := r.token(orders)
			secret, id := row.try(r, token)
			answer, err := r.enrolment(token).Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: secret, Csr: csr(t, newKey(t), id)})
			if answer != nil {
				t.Error("a certificate was issued")
			}
			r.wantRefusal(err, row.reason)
			if strings.Contains(r.log.String(), token.Secret) {
				t.Error("the log shows the token's secret")
			}
		})
	}
}

// Of many who use one token at once, one gets a certificate.
func TestJoinTokenIsUsedOnceInParallel(t *testing.T) {
	r := newRig(t)
	token := r.token(orders)
	client := r.enrolment(token)
	var won atomic.Int32
	var group sync.WaitGroup
	for range 32 {
		request := csr(t, newKey(t), orders)
		group.Go(func() {
			if _, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: request}); err == nil {
				won.Add(1)
			} else if status.Code(err) != codes.PermissionDenied {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 32 enrolled with one token", n)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	id, _ := url.Parse(orders)
	second, _ := url.Parse(other)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	only := []*url.URL{id}
	// A SAN with a registered id (RFC 5280 §4.2.1.6, tag 8), which the library
	// does not parse, beside the right URI.
	hidden := append([]byte{0x30, byte(2 + len(orders) + 5), 0x86, byte(len(orders))}, orders...)
	hidden = append(hidden, 0x88, 3, 0x2a, 3, 4)
	rows := map[string]struct {
		reason  string
		key     crypto.Signer
		request x509.CertificateRequest
	}{
		"a DNS name beside":     {"and 1 others", key, x509.CertificateRequest{URIs: only, DNSNames: []string{"orders"}}},
		"an IP address beside":  {"and 1 others", key, x509.CertificateRequest{URIs: only, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}},
		"an e-mail beside":      {"and 1 others", key, x509.CertificateRequest{URIs: only, EmailAddresses: []string{"a@b.example"}}},
		"a second URI":          {"2 URI SANs", key, x509.CertificateRequest{URIs: []*url.URL{id, second}}},
		"no SAN":                {"0 URI SANs", key, x509.CertificateRequest{Subject: pkix.Name{CommonName: orders}}},
		"another's id":          {"the CSR is for", key, x509.CertificateRequest{URIs: []*url.URL{second}}},
		"RSA of 1024 bits":      {"ECDSA P-256 or Ed25519", weak, x509.CertificateRequest{URIs: only}},
		"RSA of 2048 bits":      {"ECDSA P-256 or Ed25519", strong, x509.CertificateRequest{URIs: only}},
		"P-224":                 {"not P-256", p224, x509.CertificateRequest{URIs: only}},
		"a CA bit":              {"asks for extension 2.5.29.19", key, x509.CertificateRequest{URIs: only, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}}},
		"a hidden name":         {"other names beside", key, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: subjectAltName, Value: hidden}}}},
		"more than it may have": {"more than 4096", key, x509.CertificateRequest{URIs: only, Subject: pkix.Name{CommonName: strings.Repeat("x", 5000)}}},
	}
	r := newRig(t)
	token := r.token(orders)
	client := r.enrolment(token)
	try := func(der []byte, reason string) {
		t.Helper()
		_, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: der})
		r.wantRefusal(err, reason)
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			der, err := x509.CreateCertificateRequest(rand.Reader, &row.request, row.key)
			if err != nil {
				t.Fatal(err)
			}
			r.log.reset()
			try(der, row.reason)
		})
	}
	good := csr(t, key, orders)
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	try(forged, "not signed by its own key")
	try(nil, "cannot be read")
	// None of them has used the token up.
	if _, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: good}); err != nil {
		t.Error(err)
	}
}

// One that was taken over cannot fill the database and keep the signer busy, from
// however many addresses, nor can anybody use up another's renewals.
func TestRenewalsOfOneAreBounded(t *testing.T) {
	r := newRig(t)
	h, theirs := r.enrol(orders), r.enrol(other)
	renew := func(h *holder) error {
		request, _ := h.renewal(t)
		_, err := r.enrolment(r.token(orders)).Renew(t.Context(), request)
		return err
	}
	for range perWindow - 1 {
		r.Server.renewals.count(orders)
	}
	forged, _ := h.renewal(t)
	forged.Proof = nil
	if _, err := r.enrolment(r.token(orders)).Renew(t.Context(), forged); err == nil {
		t.Fatal("renewed without a proof")
	}
	if err := renew(h); err != nil {
		t.Errorf("the last that may: %v", err)
	}
	if err := renew(h); status.Code(err) != codes.Unavailable || !strings.Contains(r.log.String(), "renews too often") {
		t.Errorf("one more: %v", err)
	}
	if err := renew(theirs); err != nil {
		t.Errorf("another: %v", err)
	}
	r.advance(window)
	if err := renew(h); err != nil {
		t.Errorf("in the next window: %v", err)
	}
}

func TestRenewalsAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		reason string
		spoil  func(r *rig, h *holder, request *workloadv1.RenewRequest)
	}{
		"with another's certificate": {"no signature of the old key", func(r *rig, h *holder, request *workloadv1.RenewRequest) {
			request.Certificate = r.enrol(other).chain[0].Raw
			request.Proof = prove(r.t, h.key, request.Certificate, request.Csr)
		}},
		"for another's id": {"the CSR is for", func(r *rig, h *holder, request *workloadv1.RenewRequest) {
			request.Csr = csr(r.t, newKey(r.t), other)
			request.Proof = prove(r.t, h.key, request.Certificate, request.Csr)
		}},
		"with a revoked one": {"was revoked", func(r *rig, _ *holder, _ *workloadv1.RenewRequest) {
			if _, err := r.admin().Revoke(r.t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
				r.t.Fatal(err)
			}
		}},
		"that ended more than a day ago": {"more than 24h0m0s ago", func(r *rig, _ *holder, _ *workloadv1.RenewRequest) {
			r.advance(25*time.Hour + time.Minute)
		}},
		"with the proof of another request": {"no signature of the old key", func(r *rig, h *holder, request *workloadv1.RenewRequest) {
			request.Csr = csr(r.t, newKey(r.t), orders)
		}},
		"with the new key's proof": {"no signature of the old key", func(r *rig, _ *holder, request *workloadv1.RenewRequest) {
			key := newKey(r.t)
			request.Csr = csr(r.t, key, orders)
			request.Proof = prove(r.t, key, request.Certificate, request.Csr)
		}},
		"without a proof": {"no signature of the old key", func(_ *rig, _ *holder, request *workloadv1.RenewRequest) {
			request.Proof = nil
		}},
		"of a foreign CA": {"was not issued here", func(r *rig, h *holder, request *workloadv1.RenewRequest) {
			foreign, err := Open(r.t.TempDir(), r.now)
			if err != nil {
				r.t.Fatal(err)
			}
			request.Certificate = issueWith(r.t, foreign, h).Raw
			request.Proof = prove(r.t, h.key, request.Certificate, request.Csr)
		}},
		"that our intermediate signed and the CA did not issue": {"was not issued here", func(r *rig, h *holder, request *workloadv1.RenewRequest) {
			request.Certificate = issueWith(r.t, r.authority, h).Raw
			request.Proof = prove(r.t, h.key, request.Certificate, request.Csr)
		}},
		"that is none": {"cannot be read", func(_ *rig, _ *holder, request *workloadv1.RenewRequest) {
			request.Certificate = []byte("none")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			client := r.enrolment(r.token(orders))
			h := r.enrol(orders)
			request, _ := h.renewal(t)
			row.spoil(r, h, request)
			answer, err := client.Renew(t.Context(), request)
			if answer != nil {
				t.Error("a certificate was issued")
			}
			r.wantRefusal(err, row.reason)
		})
	}
}

// issueWith is a certificate for a holder's key that no record tells of.
func issueWith(t *testing.T, a *Authority, h *holder) *x509.Certificate {
	t.Helper()
	id, err := ParseID(h.id)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.issueTo(t.Context(), a.svid(id, time.Hour), h.key)
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

// Whoever asks too often is not heard any more, and says nothing to the
// database.
func TestAddressesAreLimited(t *testing.T) {
	r := newRig(t)
	client := r.enrolment(r.token(orders))
	for range perWindow {
		if _, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Fatal(err)
		}
	}
	if _, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than allowed: %v", err)
	}
	r.advance(window)
	if _, err := client.Enrol(t.Context(), &workloadv1.EnrolRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("in the next window: %v", err)
	}
}
