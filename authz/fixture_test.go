package authz

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

const (
	testDomain   = "gatehouse.local"
	testIssuer   = "https://issuer.example"
	testNode     = "spiffe://gatehouse.local/gateway/edge"
	testAudience = "https://orders.example"
	testAuthz    = "spiffe://gatehouse.local/authz"
	testOrders   = "spiffe://gatehouse.local/service/orders"
	testProfile  = "spiffe://gatehouse.local/service/profile"
)

// ruleSigner is a control plane's rule key.
type ruleSigner struct {
	private ed25519.PrivateKey
	file    conf.Path
}

func newRuleSigner(t testing.TB) ruleSigner {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ruleSigner{private: private, file: writePublic(t, public)}
}

func writePublic(t testing.TB, public any) conf.Path {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rule.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf.Path(file)
}

// sign encodes a rule as the control plane does.
func (s ruleSigner) sign(t testing.TB, rule *rulev1.Rule) string {
	t.Helper()
	return s.signBytes(t, marshal(t, rule))
}

func (s ruleSigner) signBytes(t testing.TB, rule []byte) string {
	t.Helper()
	signature := ed25519.Sign(s.private, append([]byte(envoy.RuleContext), rule...))
	return encodeRule(t, &rulev1.SignedRule{Rule: rule, Signature: signature, KeyId: s.keyID()})
}

func (s ruleSigner) keyID() []byte { return envoy.RuleKeyID(s.private.Public().(ed25519.PublicKey)) }

func encodeRule(t testing.TB, signed *rulev1.SignedRule) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(marshal(t, signed))
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// ordersRule is a rule that says everything.
func ordersRule() *rulev1.Rule {
	return &rulev1.Rule{
		Route: "orders-list", Service: "orders",
		NodeIdentities: []string{testNode}, Issuers: []string{testIssuer},
		Audience: testAudience, Scopes: []string{"read:orders"},
		TokenSources:       []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER},
		RevocationMaxAgeMs: 600_000,
	}
}

// inboundRule is what a service's sidecar asks with; the edge and profile may
// call.
func inboundRule(service string) *rulev1.Rule {
	r := ordersRule()
	r.NodeIdentities, r.Issuers, r.Audience = []string{service}, []string{testAuthz}, service
	r.TokenSources = []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_ASSERTION}
	r.Peers = []string{testNode, testProfile}
	return r
}

// outboundRule is what a service's sidecar asks with when the service calls.
func outboundRule(service, target string) *rulev1.Rule {
	r := inboundRule(service)
	r.Peers, r.Scopes, r.Acting, r.AssertionAudience = nil, nil, service, target
	return r
}

// keyServer is an issuer's JWKS endpoint and the keys behind it.
type keyServer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	down    bool
	fetches atomic.Int32
}

func newKeyServer(t testing.TB) *keyServer {
	k := &keyServer{keys: map[string]*ecdsa.PrivateKey{}}
	k.Server = httptest.NewServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) serve(w http.ResponseWriter, _ *http.Request) {
	k.fetches.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	set := map[string][]any{"keys": {}}
	for _, kid := range slices.Sorted(maps.Keys(k.keys)) {
		set["keys"] = append(set["keys"], publicJWK(k.keys[kid]))
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	json.NewEncoder(w).Encode(set)
}

func publicJWK(key *ecdsa.PrivateKey) map[string]string {
	x, y := coordinates(key)
	return map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kidOf(key), "x": x, "y": y}
}

func coordinates(key *ecdsa.PrivateKey) (x, y string) {
	point, err := key.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		panic(err)
	}
	return b64(point[1:33]), b64(point[33:])
}

// kidOf is the RFC 7638 thumbprint.
func kidOf(key *ecdsa.PrivateKey) string {
	x, y := coordinates(key)
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return b64(sum[:])
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// newKey makes a key that is published at once.
func (k *keyServer) newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key := unpublishedKey(t)
	k.publish(key)
	return key
}

func unpublishedKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (k *keyServer) publish(key *ecdsa.PrivateKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[kidOf(key)] = key
}

// refuse makes fetches fail, or succeed again.
func (k *keyServer) refuse(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

// claimSet is a token's payload.
type claimSet map[string]any

var jtis atomic.Int64

// personClaims are those of a person's token, as the issuer mints it now.
func personClaims(now time.Time) claimSet {
	return claimSet{
		"iss": testIssuer, "aud": testAudience, "sub": "usr_ada", "client_id": "shop",
		"scope": "read:orders profile", "roles": []string{"customer", "approver"},
		"jti": "jti-" + time.Duration(jtis.Add(1)).String(), "sid": "sid-1", "grant_id": "grant-1",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "auth_time": now.Unix(),
	}
}

func (c claimSet) with(name string, value any) claimSet {
	c = maps.Clone(c)
	c[name] = value
	return c
}

func (c claimSet) without(name string) claimSet {
	c = maps.Clone(c)
	delete(c, name)
	return c
}

// mint signs a token as the issuer does.
func mint(t testing.TB, key *ecdsa.PrivateKey, claims claimSet) string {
	t.Helper()
	return mintWithHeader(t, key, map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": kidOf(key)}, claims)
}

func mintWithHeader(t testing.TB, key *ecdsa.PrivateKey, header map[string]any, claims claimSet) string {
	t.Helper()
	input := b64(mustJSON(t, header)) + "." + b64(mustJSON(t, claims))
	hash := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + b64(signature)
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
