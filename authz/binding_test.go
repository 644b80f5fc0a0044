package authz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const testOrigin = "https://gate.example:8443"

// provable makes a rule take DPoP as well.
func provable(r *rulev1.Rule) {
	r.TokenSources = append(r.TokenSources, rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_DPOP)
	r.Origins, r.PeerCertificate = []string{"https://mtls.gate.example:8443", testOrigin}, true
}

func demanding(bindings ...rulev1.TokenBinding) func(*rulev1.Rule) {
	return func(r *rulev1.Rule) { r.Bindings = bindings }
}

// bound mints a token that is bound to what cnf says.
func (w *world) bound(cnf map[string]any) string {
	return mint(w, w.key, personClaims(w.now()).with("cnf", cnf))
}

// requestOf carries a rule and headers.
func requestOf(rule string, headers ...string) *authv3.CheckRequest {
	in := rawRequest("/orders?limit=5", headers...)
	in.Attributes.ContextExtensions = map[string]string{envoy.RuleExtension: rule}
	return in
}

// One row, one clause of RFC 9449 at the gateway; what is wrong inside of a
// proof is tested where it is checked (package token).
func TestProofs(t *testing.T) {
	w := startWorld(t)
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	rule := w.rule(provable)
	bound, plain := w.bound(map[string]any{"jkt": key.Thumbprint()}), w.person()
	prove := func(k *tokentest.Key, members ...any) string {
		claims := tokentest.ProofClaims("GET", testOrigin+"/orders", bound, w.now())
		for i := 0; i < len(members); i += 2 {
			claims = tokentest.With(claims, map[string]any{members[i].(string): members[i+1]})
		}
		return k.Sign(k.ProofHeader(), claims)
	}
	used := prove(key)
	w.expect(requestOf(rule, "authorization", "DPoP "+bound, "dpop", used), 200, ReasonAllowed)
	for _, row := range []struct {
		clause    string
		rule      string
		headers   []string
		status    int
		reason    Reason
		challenge string
	}{
		{"RFC 9449 §7.1 the scheme in another case", rule, []string{"authorization", "dpop " + bound, "dpop", prove(key)}, 200, ReasonAllowed, ""},
		{"RFC 9449 §4.3 no. 9 by the other name", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "htu", "https://MTLS.gate.example:8443/orders?x")}, 200, ReasonAllowed, ""},
		{"an unbound token as Bearer", rule, []string{"authorization", "Bearer " + plain}, 200, ReasonAllowed, ""},
		{"RFC 9449 §7.2 a bound token as Bearer", rule, []string{"authorization", "Bearer " + bound}, 401, ReasonUnproven, `Bearer error="invalid_token"`},
		{"RFC 9449 §7.2 a bound token as Bearer, with its proof", rule, []string{"authorization", "Bearer " + bound, "dpop", prove(key)}, 401, ReasonUnproven, `Bearer error="invalid_token"`},
		{"RFC 9449 §7.1 an unbound token as DPoP", rule, []string{"authorization", "DPoP " + plain, "dpop", key.Proof("GET", testOrigin+"/orders", plain, w.now())}, 401, ReasonUnbound, `error="invalid_token"`},
		{"RFC 9449 §4.3 no. 1 no proof", rule, []string{"authorization", "DPoP " + bound}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 1 two proofs", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key), "dpop", prove(key)}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 2 two proofs in one header", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key) + "," + prove(key)}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 8 another method", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "htm", "POST")}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 9 another path", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "htu", testOrigin+"/orders/1")}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 9 the host that the client names is not asked", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "htu", "https://gate.example/orders")}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 11 too old", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "iat", w.now().Add(-proofMaxAge-2*time.Second).Unix())}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 11 from the future", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "iat", w.now().Add(w.config.Skew+10*time.Second).Unix())}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 12 no ath", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(key, "ath", nil)}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"RFC 9449 §4.3 no. 12 another key", rule, []string{"authorization", "DPoP " + bound, "dpop", prove(other)}, 401, ReasonUnproven, `error="invalid_token"`},
		{"RFC 9449 §11.1 used before", rule, []string{"authorization", "DPoP " + bound, "dpop", used}, 401, ReasonProof, `error="invalid_dpop_proof"`},
		{"a route that does not take DPoP", w.rule(), []string{"authorization", "DPoP " + bound, "dpop", prove(key)}, 401, ReasonNoCredential, "DPoP algs="},
		{"RFC 6750 §3.1 two methods at once", rule, []string{"authorization", "DPoP " + bound, "authorization", "Bearer " + plain, "dpop", prove(key)}, 400, ReasonManyCredentials, `error="invalid_request"`},
		{"a route that wants DPoP, unbound", w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_DPOP)), []string{"authorization", "Bearer " + plain}, 401, ReasonUnbound, `DPoP algs="ES256 ES384 EdDSA", error="invalid_token"`},
		{"a route that wants DPoP, nothing", w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_DPOP)), nil, 401, ReasonNoCredential, `DPoP algs="ES256 ES384 EdDSA"`},
		{"a route that wants DPoP, proven", w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_DPOP)), []string{"authorization", "DPoP " + bound, "dpop", prove(key)}, 200, ReasonAllowed, ""},
		{"a route that wants a certificate", w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_CERTIFICATE)), []string{"authorization", "DPoP " + bound, "dpop", prove(key)}, 401, ReasonUnbound, "DPoP"},
	} {
		t.Run(row.clause, func(t *testing.T) {
			w.TB = t
			in := requestOf(row.rule, row.headers...)
			response := w.check(in)
			challenge := ""
			for _, h := range response.GetDeniedResponse().GetHeaders() {
				if h.GetHeader().GetKey() == "www-authenticate" {
					challenge = h.GetHeader().GetValue()
				}
			}
			status, reason := int(response.GetDeniedResponse().GetStatus().GetCode()), Reason(response.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
			if response.GetOkResponse() != nil {
				status = 200
			}
			if status != row.status || reason != row.reason || !strings.Contains(challenge, row.challenge) || (row.challenge == "") != (challenge == "") {
				t.Errorf("%d %s, challenge %q; log %s", status, reason, challenge, w.logs.last())
			}
		})
	}
	w.TB = t
}

// A proof of one verdict is not used up by a request that is denied before.
func TestProofCountsOnceAllElseIsRight(t *testing.T) {
	w := startWorld(t)
	key := tokentest.NewKey("ES256")
	bound := w.bound(map[string]any{"jkt": key.Thumbprint()})
	proof := key.Proof("GET", testOrigin+"/orders", bound, w.now())
	w.expect(requestOf(w.rule(provable, func(r *rulev1.Rule) { r.Audience = "https://other.example" }), "authorization", "DPoP "+bound, "dpop", proof), 401, ReasonWrongAudience)
	w.expect(requestOf(w.rule(provable), "authorization", "DPoP "+bound, "dpop", proof), 200, ReasonAllowed)
}

func TestProofsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.config.ProofEntries = 1024
	w.start()
	w.waitReady()
	key := tokentest.NewKey("EdDSA")
	bound := w.bound(map[string]any{"jkt": key.Thumbprint()})
	full := 0
	for range 1100 {
		in := requestOf(w.rule(provable), "authorization", "DPoP "+bound, "dpop", key.Proof("GET", testOrigin+"/orders", bound, w.now()))
		if status, reason := w.verdict(in); status == 503 && reason == ReasonProofsFull {
			full++
		}
	}
	if full < 1100-1024 {
		t.Errorf("%d were refused", full)
	}
	w.expect(requestOf(w.rule(provable), "authorization", "Bearer "+w.person()), 200, ReasonAllowed)
}

// peerCertificate is a self-signed certificate, as Envoy tells of it.
func peerCertificate(t *testing.T) (encoded, thumbprint string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return url.PathEscape(string(text)), token.CertificateThumbprint(certificate)
}

func TestCertificateBoundTokens(t *testing.T) {
	w := startWorld(t)
	mine, thumbprint := peerCertificate(t)
	others, _ := peerCertificate(t)
	key := tokentest.NewKey("ES256")
	bound := w.bound(map[string]any{"x5t#S256": thumbprint})
	both := w.bound(map[string]any{"x5t#S256": thumbprint, "jkt": key.Thumbprint()})
	closed := func(r *rulev1.Rule) { r.PeerCertificate = false }
	for _, row := range []struct {
		clause, certificate, rule, authorization string
		status                                   int
		reason                                   Reason
	}{
		{"RFC 8705 §3 its certificate", mine, w.rule(provable), "Bearer " + bound, 200, ReasonAllowed},
		{"RFC 8705 §3 no certificate", "", w.rule(provable), "Bearer " + bound, 401, ReasonUnproven},
		{"RFC 8705 §3 another certificate", others, w.rule(provable), "Bearer " + bound, 401, ReasonUnproven},
		{"RFC 8705 §3 no PEM", "x", w.rule(provable), "Bearer " + bound, 401, ReasonUnproven},
		{"RFC 8705 §3 a rule that asks for none", mine, w.rule(provable, closed), "Bearer " + bound, 401, ReasonUnproven},
		{"RFC 8705 §3 a rule of before", mine, w.rule(), "Bearer " + bound, 401, ReasonUnproven},
		{"RFC 9449 §7.1 as DPoP", mine, w.rule(provable), "DPoP " + bound, 401, ReasonUnbound},
		{"bound to both, the certificate alone", mine, w.rule(provable), "Bearer " + both, 401, ReasonUnproven},
		{"a route that wants a certificate", mine, w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_CERTIFICATE)), "Bearer " + bound, 200, ReasonAllowed},
		{"a route that wants DPoP", mine, w.rule(provable, demanding(rulev1.TokenBinding_TOKEN_BINDING_DPOP)), "Bearer " + bound, 401, ReasonUnbound},
		{"an unbound token with a certificate", mine, w.rule(provable), "Bearer " + w.person(), 200, ReasonAllowed},
	} {
		t.Run(row.clause, func(t *testing.T) {
			w.TB = t
			in := requestOf(row.rule, "authorization", row.authorization)
			in.Attributes.Source = &authv3.AttributeContext_Peer{Certificate: row.certificate}
			w.expect(in, row.status, row.reason)
		})
	}
	w.TB = t
	in := requestOf(w.rule(provable), "authorization", "DPoP "+both, "dpop", key.Proof("GET", testOrigin+"/orders", both, w.now()))
	w.expect(in, 401, ReasonUnproven)
	in.Attributes.Source = &authv3.AttributeContext_Peer{Certificate: mine}
	w.expect(in, 200, ReasonAllowed)
}
