package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/envoy"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// mesh is a world whose authorizer shares keys over a trust service, one of
// which, forger's, the test signs with.
type mesh struct {
	*world
	trust  *testTrust
	forger *tokentest.Key
}

func startMesh(t testing.TB) *mesh {
	t.Helper()
	m := &mesh{world: newWorld(t), trust: newTestTrust(), forger: tokentest.NewKey("EdDSA")}
	m.world.trust = m.trust
	m.trust.foreign = []*workloadv1.AssertionKey{{Id: m.forger.ID(), Jwk: mustJSON(t, m.forger.JWK()), ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))}}
	m.start()
	m.waitReady()
	return m
}

// from is a call by the Envoy with this SPIFFE id.
func from(t testing.TB, id string) context.Context {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{}, AuthInfo: credentials.TLSInfo{
		State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{URIs: []*url.URL{uri}}}}},
	}})
}

// asks is a Check of an Envoy; peer is the SPIFFE id of who called it.
func (m *mesh) asks(node, peer string, rule *rulev1.Rule, assertion string, headers ...string) (*authv3.CheckResponse, Reason) {
	m.Helper()
	if assertion != "" {
		headers = append(headers, envoy.AssertionHeader, assertion)
	}
	in := checkOf(m.signer.sign(m, rule), "", headers...)
	in.Attributes.Source = &authv3.AttributeContext_Peer{Principal: peer}
	response, err := m.server.Check(from(m, node), in)
	if err != nil {
		m.Fatal(err)
	}
	return response, Reason(response.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
}

func (m *mesh) wants(what string, want Reason, response *authv3.CheckResponse, got Reason) {
	m.Helper()
	if got != want || (want == ReasonAllowed) != (response.GetOkResponse() != nil) {
		m.Errorf("%s: %s, want %s; log: %s", what, got, want, m.logs.last())
	}
}

func toOrders(r *rulev1.Rule) { r.AssertionAudience = testOrders }

// fromEdge is the assertion that orders gets of a person's request.
func (m *mesh) fromEdge(bearer string, headers ...string) string {
	m.Helper()
	got := m.check(checkOf(m.rule(toOrders), bearer, headers...))
	assertion := headersSet(m, got)[envoy.AssertionHeader]
	if assertion == "" {
		m.Fatalf("no assertion: %v; log: %s", got, m.logs.last())
	}
	return assertion
}

func (m *mesh) read(assertion, audience string) *token.Assertion {
	m.Helper()
	a, err := m.server.assertions.verifier.Verify(assertion, audience)
	if err != nil {
		m.Fatal(err)
	}
	return a
}

func TestAssertionOfTheEdge(t *testing.T) {
	m := startMesh(t)
	bearer := m.person()
	first := m.fromEdge(bearer, "x-request-id", "req-1", envoy.AssertionHeader, "forged")
	a := m.read(first, testOrders)
	if a.Subject() != "usr_ada" || a.ClientID() != "shop" || a.Requester() != testNode || a.Transaction() != "req-1" ||
		a.TokenIssuer() != testIssuer || a.Actors() != nil || !a.HasScope("read:orders") || a.ExpiresAt().Sub(a.IssuedAt()) != time.Minute {
		t.Errorf("it says %+v", a)
	}
	if again := m.fromEdge(bearer, "x-request-id", "req-2"); again != first {
		t.Error("it was made anew within half its life")
	}
	if other := m.fromEdge(m.person()); other == first {
		t.Error("two tokens share one")
	}
	other := m.check(checkOf(m.rule(func(r *rulev1.Rule) { r.AssertionAudience = testProfile }), bearer))
	if a := m.read(headersSet(t, other)[envoy.AssertionHeader], testProfile); a.Audience() != testProfile {
		t.Errorf("for another service: %+v", a)
	}
	m.advance(31 * time.Second)
	if m.fromEdge(bearer) == first {
		t.Error("it was not made anew after half its life")
	}
}

func TestAssertionOfEachRequest(t *testing.T) {
	m := &mesh{world: newWorld(t)}
	m.config.Assertions.EachRequest = true
	m.start()
	m.waitReady()
	bearer := m.person()
	m.fromEdge(bearer, "x-request-id", "req-1")
	if a := m.read(m.fromEdge(bearer, "x-request-id", "req-2"), testOrders); a.Transaction() != "req-2" {
		t.Errorf("its txn is %q", a.Transaction())
	}
}

func TestAssertionEndsWithItsToken(t *testing.T) {
	m := startMesh(t)
	ends := m.now().Add(20 * time.Second).Truncate(time.Second)
	bearer := mint(t, m.key, personClaims(m.now().Add(-time.Minute)).with("exp", ends.Unix()))
	if a := m.read(m.fromEdge(bearer), testOrders); !a.ExpiresAt().Equal(ends) {
		t.Errorf("it ends at %s, the token at %s", a.ExpiresAt(), ends)
	}
	m.advance(21 * time.Second) // within the skew
	m.expect(checkOf(m.rule(toOrders), bearer), 401, ReasonExpiredToken)
}

// TestAssertionAtTheSidecar: of what a sidecar may be given, a good assertion
// of the peer that presents it passes alone.
func TestAssertionAtTheSidecar(t *testing.T) {
	m := startMesh(t)
	good := m.fromEdge(m.person())
	a := m.read(good, testOrders)
	head := map[string]any{"alg": "EdDSA", "typ": token.TypeAssertion, "kid": m.forger.ID()}
	body := a.Claims().Raw()
	forged := func(members map[string]any) string { return m.forger.Sign(head, tokentest.With(body, members)) }
	ask := func(peer, assertion string, headers ...string) (*authv3.CheckResponse, Reason) {
		return m.asks(testOrders, peer, inboundRule(testOrders), assertion, headers...)
	}
	for range 2 { // new, then seen
		got, reason := ask(testNode, good)
		m.wants("a good one", ReasonAllowed, got, reason)
		set := headersSet(t, got)
		if set["x-gatehouse-subject"] != "usr_ada" || set["x-gatehouse-roles"] != "customer,approver" || set["x-gatehouse-issuer"] != testIssuer || set[envoy.AssertionHeader] != "" {
			t.Errorf("the service is told %v", set)
		}
		for _, name := range got.GetOkResponse().GetHeadersToRemove() {
			if name == envoy.AssertionHeader {
				t.Error("the service does not get the assertion")
			}
		}
	}
	unknown := tokentest.NewKey("EdDSA")
	for _, c := range []struct {
		name, peer, assertion string
		want                  Reason
	}{
		{"another authorizer's", testNode, forged(nil), ReasonAllowed},
		{"none", testNode, "", ReasonNoCredential},
		{"two in one header", testNode, good + "," + good, ReasonManyCredentials},
		{"for another service", testNode, forged(map[string]any{"aud": testProfile}), ReasonWrongAudience},
		{"expired", testNode, forged(map[string]any{"iat": m.now().Unix() - 100, "exp": m.now().Unix() - 40}), ReasonExpiredToken},
		{"from the future", testNode, forged(map[string]any{"iat": m.now().Unix() + 40, "exp": m.now().Unix() + 60}), ReasonInvalidToken},
		{"too long", testNode, forged(map[string]any{"exp": m.now().Unix() + 70}), ReasonInvalidToken},
		{"unsigned", testNode, good[:strings.LastIndexByte(good, '.')+1], ReasonMalformedToken},
		{"alg none", testNode, m.forger.Sign(tokentest.With(head, map[string]any{"alg": "none"}), body), ReasonInvalidToken},
		{"of an unknown key", testNode, unknown.Sign(tokentest.With(head, map[string]any{"kid": unknown.ID()}), body), ReasonUnknownKey},
		{"an access token", testNode, m.person(), ReasonInvalidToken},
		{"oversize", testNode, good + strings.Repeat("A", token.MaxSize), ReasonMalformedToken},
		{"of another issuer", testNode, forged(map[string]any{"iss": "spiffe://evil.local/authz"}), ReasonWrongIssuer},
		{"by another peer than it was made for", testProfile, good, ReasonPeer},
		{"by a peer that may not call", "spiffe://gatehouse.local/service/shop", good, ReasonPeer},
		{"by no peer", "", good, ReasonPeer},
		{"without the scope", testNode, forged(map[string]any{"scope": "profile"}), ReasonInsufficientScope},
		{"of a token of an issuer that is not listed", testNode, forged(map[string]any{"tctx": tokentest.With(body["tctx"].(map[string]any), map[string]any{"iss": "https://other.example"})}), ReasonUnknownIssuer},
	} {
		got, reason := ask(c.peer, c.assertion)
		m.wants(c.name, c.want, got, reason)
	}
	got, reason := ask(testNode, good, envoy.AssertionHeader, good)
	m.wants("two headers", ReasonManyCredentials, got, reason)
	m.expect(checkOf(m.rule(), good), 401, ReasonWrongIssuer) // as a bearer token at the edge
	got, reason = m.asks(testProfile, testNode, inboundRule(testOrders), good)
	m.wants("another service's rule", ReasonRuleForeign, got, reason)
}

func TestAssertionDiesWithItsToken(t *testing.T) {
	m := startMesh(t)
	claims := personClaims(m.now())
	good := m.fromEdge(mint(t, m.key, claims))
	got, reason := m.asks(testOrders, testNode, inboundRule(testOrders), good)
	m.wants("before", ReasonAllowed, got, reason)
	m.feed.revoke(revocationv1.Kind_KIND_TOKEN, claims["jti"].(string), 0)
	m.eventually("revoked", func() bool {
		_, reason := m.asks(testOrders, testNode, inboundRule(testOrders), good)
		return reason == ReasonRevoked
	})
}

// TestAssertionOnwards: orders calls profile for the person, with less than it
// was given and never with more.
func TestAssertionOnwards(t *testing.T) {
	m := startMesh(t)
	got := m.fromEdge(m.person(), "x-request-id", "req-1")
	out := outboundRule(testOrders, testProfile)
	response, reason := m.asks(testOrders, "", out, got, "x-request-id", "req-9")
	m.wants("onwards", ReasonAllowed, response, reason)
	next := headersSet(t, response)[envoy.AssertionHeader]
	a := m.read(next, testProfile)
	if a.Subject() != "usr_ada" || a.Requester() != testOrders || len(a.Actors()) != 1 || a.Actors()[0] != testOrders || a.Transaction() != "req-1" ||
		len(a.Scopes()) != 2 || a.Claims().ID() != m.read(got, testOrders).Claims().ID() {
		t.Errorf("the next one says %+v", a)
	}
	in := inboundRule(testProfile)
	in.Peers = []string{testOrders}
	response, reason = m.asks(testProfile, testOrders, in, next)
	m.wants("at profile", ReasonAllowed, response, reason)
	if actor := headersSet(t, response)[envoy.HeaderActor]; actor != testOrders {
		t.Errorf("profile is told of the actor %q", actor)
	}
	response, reason = m.asks(testProfile, testOrders, in, got)
	m.wants("profile with orders' own", ReasonWrongAudience, response, reason)
	response, reason = m.asks(testOrders, "", out, "")
	m.wants("a call of the service's own", ReasonNoCredential, response, reason)
	if !strings.Contains(m.logs.last(), "on behalf of somebody") {
		t.Errorf("the log does not say why: %s", m.logs.last())
	}
	response, reason = m.asks(testProfile, "", out, got)
	m.wants("by another's sidecar", ReasonRuleForeign, response, reason)
}

func TestAssertionNarrows(t *testing.T) {
	m := startMesh(t)
	got := m.fromEdge(m.person())
	out := outboundRule(testOrders, testProfile)
	for _, c := range []struct {
		narrow []string
		want   Reason
		scopes string
	}{
		{nil, ReasonAllowed, "read:orders profile"},
		{[]string{"profile"}, ReasonAllowed, "profile"},
		{[]string{""}, ReasonAllowed, ""},
		{[]string{"profile write:orders"}, ReasonWiderScope, ""},
		{[]string{"profile profile"}, ReasonWiderScope, ""},
		{[]string{"profile", "read:orders"}, ReasonWiderScope, ""},
		{[]string{"profile,read:orders"}, ReasonWiderScope, ""},
	} {
		var headers []string
		for _, value := range c.narrow {
			headers = append(headers, envoy.NarrowHeader, value)
		}
		response, reason := m.asks(testOrders, "", out, got, headers...)
		m.wants("narrowed to "+strings.Join(c.narrow, "|"), c.want, response, reason)
		if reason == ReasonAllowed {
			if a := m.read(headersSet(t, response)[envoy.AssertionHeader], testProfile); strings.Join(a.Scopes(), " ") != c.scopes {
				t.Errorf("narrowed to %q: %q", c.narrow, a.Scopes())
			}
		}
	}
}

func TestAssertionChainIsBounded(t *testing.T) {
	m := startMesh(t)
	body := m.read(m.fromEdge(m.person()), testOrders).Claims().Raw()
	var act map[string]any
	for range token.MaxActors {
		next := map[string]any{"sub": testProfile}
		if act != nil {
			next["act"] = act
		}
		act = next
	}
	full := m.forger.Sign(map[string]any{"alg": "EdDSA", "typ": token.TypeAssertion, "kid": m.forger.ID()}, tokentest.With(body, map[string]any{"act": act}))
	response, reason := m.asks(testOrders, testNode, inboundRule(testOrders), full)
	m.wants("as deep as may be", ReasonAllowed, response, reason)
	response, reason = m.asks(testOrders, "", outboundRule(testOrders, testProfile), full)
	m.wants("one deeper", ReasonChainTooLong, response, reason)
}

// TestDeniedWorkloads: an Envoy, a peer or an actor that was revoked is refused
// at once.
func TestDeniedWorkloads(t *testing.T) {
	m := startMesh(t)
	edge := m.fromEdge(m.person())
	response, _ := m.asks(testOrders, "", outboundRule(testOrders, testProfile), edge)
	next := headersSet(t, response)[envoy.AssertionHeader]
	in := inboundRule(testProfile)
	in.Peers = []string{testOrders}
	deny := func(id string, ask func() (*authv3.CheckResponse, Reason)) {
		t.Helper()
		response, reason := ask()
		m.wants("before "+id+" is denied", ReasonAllowed, response, reason)
		m.trust.change(func() { m.trust.denied = []string{id} })
		m.eventually("denied", func() bool { _, reason := ask(); return reason == ReasonWorkloadDenied })
		m.trust.change(func() { m.trust.denied = nil })
		m.eventually("admitted again", func() bool { _, reason := ask(); return reason == ReasonAllowed })
	}
	deny(testOrders, func() (*authv3.CheckResponse, Reason) { // the Envoy that asks
		return m.asks(testOrders, testNode, inboundRule(testOrders), edge)
	})
	deny(testNode, func() (*authv3.CheckResponse, Reason) { // the peer
		return m.asks(testOrders, testNode, inboundRule(testOrders), edge)
	})
	deny(testOrders, func() (*authv3.CheckResponse, Reason) { // the peer and actor
		return m.asks(testProfile, testOrders, in, next)
	})
}
