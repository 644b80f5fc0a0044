package harness

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// Checker asks an authorizer as Envoy does.
type Checker struct{ client authv3.AuthorizationClient }

// NewChecker connects to an authorizer's socket.
func (s *System) NewChecker(t testing.TB, name string) *Checker {
	t.Helper()
	return DialChecker(t, "unix:"+s.Socket(name), insecure.NewCredentials())
}

// DialChecker connects to any authorizer.
func DialChecker(t testing.TB, address string, c credentials.TransportCredentials) *Checker {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Checker{authv3.NewAuthorizationClient(conn)}
}

// Check asks about GET /orders with a token, under the extensions of a route.
func (c *Checker) Check(t testing.TB, token string, extensions map[string]string) (*authv3.CheckResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	header := func(key, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: key, RawValue: []byte(value)}
	}
	return c.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4000}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Path: "/orders", Host: "localhost", Scheme: "https", Protocol: "HTTP/1.1",
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				header("authorization", "Bearer "+token), header("x-request-id", "e2e"),
			}},
		}},
		ContextExtensions: extensions,
	}})
}

// Verdict is what a CheckResponse makes of a request: 200 where it is allowed.
func Verdict(response *authv3.CheckResponse) int {
	if denied := response.GetDeniedResponse(); denied != nil {
		return int(denied.GetStatus().GetCode())
	}
	if response.GetOkResponse() != nil && response.GetStatus().GetCode() == 0 {
		return 200
	}
	return 0
}

// RuleKey is the key that the control plane signs rules with.
func (s *System) RuleKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Dir, "data", "keys", "rule.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		t.Fatal("the rule key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// Rule is the rule of a route for tokens of an issuer with read:orders.
func (s *System) Rule(issuer string) *rulev1.Rule {
	return &rulev1.Rule{
		Route: "orders-list", Service: "orders", NodeIdentities: []string{envoy.EdgeIdentity("gatehouse.local")},
		Issuers: []string{issuer}, Audience: OrdersAPI, Scopes: []string{"read:orders"},
		TokenSources:       []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER},
		RevocationMaxAgeMs: 600_000,
	}
}

// SignRule signs a rule and makes it a route's extensions.
func SignRule(t testing.TB, rule *rulev1.Rule, key ed25519.PrivateKey) map[string]string {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(rule)
	if err != nil {
		t.Fatal(err)
	}
	return PackRule(t, &rulev1.SignedRule{
		Rule: body, KeyId: envoy.RuleKeyID(key.Public().(ed25519.PublicKey)),
		Signature: ed25519.Sign(key, append([]byte(envoy.RuleContext), body...)),
	})
}

// PackRule makes a signed rule a route's extensions.
func PackRule(t testing.TB, signed *rulev1.SignedRule) map[string]string {
	t.Helper()
	packed, err := proto.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{envoy.RuleExtension: base64.RawURLEncoding.EncodeToString(packed)}
}

// UnpackRule reads a route's extension.
func UnpackRule(t testing.TB, extension string) *rulev1.SignedRule {
	t.Helper()
	packed, err := base64.RawURLEncoding.DecodeString(extension)
	if err != nil {
		t.Fatal(err)
	}
	signed := &rulev1.SignedRule{}
	if err := proto.Unmarshal(packed, signed); err != nil {
		t.Fatal(err)
	}
	return signed
}
