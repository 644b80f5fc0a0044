package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

// signer is an authorizer of the test's own: it publishes a key as each of them
// does, and so can sign what no authorizer would.
type signer struct {
	trust  workloadv1.TrustClient
	key    *token.AssertionKey
	origin *token.Claims
}

// newSigner speaks for what an assertion is about.
func (m *mesh) newSigner(t *testing.T, about string) *signer {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+m.Socket("ca"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	key, err := token.NewAssertionKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := token.ParseAssertionKeys(m.assertionKeys(t, "orders"))
	verifier, err := token.NewAssertionVerifier(token.AssertionConfig{
		Issuer: envoy.AuthzIdentity(trustDomain), Keys: func() *token.KeySet { return keys },
	})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := verifier.Verify(about, ordersID)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{trust: workloadv1.NewTrustClient(conn), key: key, origin: verified.Claims()}
}

// publish makes these the test's keys, in place of what it published before.
func (s *signer) publish(t *testing.T, keys ...*token.AssertionKey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := &workloadv1.PublishAssertionKeysRequest{Replica: "e2e"}
	for _, k := range keys {
		r.Keys = append(r.Keys, &workloadv1.AssertionKey{Id: k.ID(), Jwk: k.JWK(), ExpiresAt: timestamppb.New(time.Now().Add(10 * time.Minute))})
	}
	if _, err := s.trust.PublishAssertionKeys(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// sign makes an assertion for orders, called by the edge, changed a little.
func (s *signer) sign(t *testing.T, change func(*token.AssertionContent)) string {
	t.Helper()
	content := token.AssertionContent{
		Issuer: envoy.AuthzIdentity(trustDomain), Audience: ordersID, Transaction: "e2e", Requester: edgeID,
		Scopes: s.origin.Scopes(), IssuedAt: time.Now(),
	}
	if change != nil {
		change(&content)
	}
	text, _, err := s.key.Sign(s.origin, content)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// assertionKeys are the authorizers' public keys, as a sidecar hands them to
// its service.
func (m *mesh) assertionKeys(t *testing.T, service string) (jwks [][]byte) {
	t.Helper()
	status, body, err := harness.Get("http://" + m.Sidecars[service].Telemetry + "/assertion-keys")
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err != nil || status != 200 || json.Unmarshal([]byte(body), &set) != nil {
		t.Fatalf("the assertion keys of %s: %d %s %v", service, status, body, err)
	}
	for _, key := range set.Keys {
		jwks = append(jwks, key)
	}
	return jwks
}

// again is one request on a connection that stands, if it still does.
func again(t *testing.T, client *http.Client, url, assertion string) (answer harness.Answer, reused bool, err error) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Gatehouse-Assertion", assertion)
	answer, err = harness.Read(client, request)
	return answer, reused, err
}

// calls is an HTTP client with an enrolled identity for the sidecar of a service.
func calls(t *testing.T, id serve.Source, peer string) *http.Client {
	transport := &http.Transport{TLSClientConfig: serve.ClientTLS(id, peer, time.Now)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// withHeader is a token under another header, with the old signature or none.
func withHeader(text, header string, signed bool) string {
	parts := strings.Split(text, ".")
	parts[0] = base64.RawURLEncoding.EncodeToString([]byte(header))
	if !signed {
		parts[2] = ""
	}
	return strings.Join(parts, ".")
}

// Assertions that a sidecar gets from who may call it, over mutual TLS, and
// that are no good: an authorizer's log says why, the peer hears nothing, and
// the service even less. The control is one that an authorizer might have made.
func TestMeshBadAssertions(t *testing.T) {
	m := startMesh(t, harness.Options{})
	client := calls(t, m.asEdge(), ordersID)
	url := "https://" + m.Address("orders") + "/orders/1"
	ask := func(assertion string) harness.Answer {
		answer, _, err := again(t, client, url, assertion)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	real := assertionOf(t, m.hears(t, "GET", "/orders/1", m.reads))
	s := m.newSigner(t, real)
	stranger := m.newSigner(t, real)
	refused := func(name, assertion, reason string) {
		t.Helper()
		one, other := m.Process(harness.Authz), m.Process(harness.AuthzName(1))
		from, otherFrom := one.Logged(), other.Logged()
		m.nobodyHears(t, "orders", func() {
			answer := ask(assertion)
			if answer.Status != 401 {
				t.Errorf("%s: %s", name, answer)
			}
			for _, telling := range []string{"spiffe", "kid", reason} {
				if strings.Contains(answer.String(), telling) {
					t.Errorf("%s: the peer is told %q: %s", name, telling, answer)
				}
			}
		})
		if err := harness.Try(2*time.Second, func() error {
			if said := one.LogSince(from) + other.LogSince(otherFrom); !strings.Contains(said, reason) {
				return fmt.Errorf("no authorizer says %q:\n%s", reason, said)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.publish(t, s.key)
	harness.Eventually(t, 10*time.Second, func() error {
		if answer := ask(s.sign(t, nil)); answer.Status != 200 {
			return fmt.Errorf("a good assertion: %s", answer)
		}
		return nil
	})
	good := s.sign(t, nil)
	for _, row := range []struct{ name, assertion, reason string }{
		{"expired", s.sign(t, func(c *token.AssertionContent) { c.IssuedAt = time.Now().Add(-2 * time.Minute) }), "it expired at"},
		{"from the future", s.sign(t, func(c *token.AssertionContent) { c.IssuedAt = time.Now().Add(2 * time.Minute) }), "in the future"},
		{"for profile", s.sign(t, func(c *token.AssertionContent) { c.Audience = profileID }), "it is for"},
		{"for a name that begins alike", s.sign(t, func(c *token.AssertionContent) { c.Audience = ordersID + "2" }), "it is for"},
		{"by an authorizer of another trust domain", s.sign(t, func(c *token.AssertionContent) { c.Issuer = envoy.AuthzIdentity("other.local") }), "iss is"},
		{"unsigned", good[:strings.LastIndex(good, ".")+1], "the signature is empty"},
		{"alg none", withHeader(good, `{"alg":"none","kid":"`+s.key.ID()+`","typ":"`+token.TypeAssertion+`"}`, false), "the signature is empty"},
		{"alg none and a signature", withHeader(good, `{"alg":"none","kid":"`+s.key.ID()+`","typ":"`+token.TypeAssertion+`"}`, true), "is none of"},
		{"alg HS256", withHeader(good, `{"alg":"HS256","kid":"`+s.key.ID()+`","typ":"`+token.TypeAssertion+`"}`, true), "is none of"},
		{"the typ of an access token", withHeader(good, `{"alg":"EdDSA","kid":"`+s.key.ID()+`","typ":"at+jwt"}`, true), "typ is"},
		{"signed by a stranger", stranger.sign(t, nil), "no authorizer's key has the kid"},
		{"signed by a stranger under that kid", withHeader(stranger.sign(t, nil), `{"alg":"EdDSA","kid":"`+s.key.ID()+`","typ":"`+token.TypeAssertion+`"}`, true), "verifying with the key"},
		{"an access token", m.reads, "typ is"},
	} {
		refused(row.name, row.assertion, row.reason)
	}
	if answer := ask(good); answer.Status != 200 {
		t.Errorf("a good assertion among bad ones: %s", answer)
	}
	s.publish(t) // the key retires; what it signed was verified, and is remembered
	if err := harness.Try(5*time.Second, func() error {
		if answer := ask(good); answer.Status != 401 {
			return fmt.Errorf("%s", answer)
		}
		return nil
	}); err != nil {
		t.Errorf("what a retired key signed: %v", err)
	}
	// Each authorizer is asked in turn, and the last may hear of it a moment later.
	harness.Eventually(t, 5*time.Second, func() error {
		for range 8 {
			if answer := ask(s.sign(t, nil)); answer.Status != 401 {
				return fmt.Errorf("signed by a retired key: %s", answer)
			}
		}
		return nil
	})
	refused("signed by a retired key", good, "no authorizer's key has the kid")
	if answer := ask(assertionOf(t, m.hears(t, "GET", "/orders/1", m.reads))); answer.Status != 200 {
		t.Errorf("an authorizer's own assertion: %s", answer)
	}
	m.crashedKeysEnd(t, s)
}

var signs = regexp.MustCompile(`"msg":"assertion key signs".*"key":"([^"]+)"`)

// signsWith is the key that an authorizer signs with.
func (m *mesh) signsWith(t *testing.T, name string) string {
	t.Helper()
	said := signs.FindAllStringSubmatch(m.Process(name).Log(), -1)
	if len(said) == 0 {
		t.Fatalf("%s does not say which key signs", name)
	}
	return said[len(said)-1][1]
}

// crashedKeysEnd kills an authorizer and starts it again: the key that it had in
// memory ends with what it signed, and the other authorizer's does not.
func (m *mesh) crashedKeysEnd(t *testing.T, s *signer) {
	dead, other := m.signsWith(t, harness.Authz), m.signsWith(t, harness.AuthzName(1))
	m.Process(harness.Authz).Kill()
	m.StartPart(t, harness.Authz)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := s.trust.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for {
		state, err := stream.Recv()
		if err != nil {
			t.Fatalf("no state lets the key of the authorizer that was killed end: %v", err)
		}
		left := map[string]time.Duration{}
		for _, k := range state.GetAssertionKeys() {
			left[k.GetId()] = time.Until(k.GetExpiresAt().AsTime())
		}
		if left[other] < 30*time.Minute {
			t.Fatalf("the other authorizer's key ends in %s", left[other])
		}
		if left[dead] > time.Minute && left[dead] <= 2*time.Minute && left[m.signsWith(t, harness.Authz)] > 30*time.Minute {
			return
		}
	}
}
