package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// limit is one of gateway.limits or of a route's.
func limit(by string, requests int, more ...any) map[string]any {
	l := map[string]any{"by": by, "requests": requests, "per": "1h"}
	for i := 0; i < len(more); i += 2 {
		l[more[i].(string)] = more[i+1]
	}
	return l
}

// gate is a client of one gateway: its address, and where it comes from.
func gate(s *harness.System, t *testing.T, address, from string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := &http.Transport{TLSClientConfig: s.TLS(t), MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func orders(s *harness.System, t *testing.T, client *http.Client, path, token string, headers ...string) harness.Answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	answer, err := harness.Read(client, request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// flood sends requests from 32 at once, by turns through each of the gates, and
// counts those that were let through and those that were one too many.
func flood(t *testing.T, s *harness.System, requests int, token string, gates ...*http.Client) (let, refused int64) {
	t.Helper()
	var sent, passed, limited atomic.Int64
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for {
				n := sent.Add(1)
				if n > int64(requests) {
					return
				}
				request, err := http.NewRequest(http.MethodGet, s.URL("/orders"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+token)
				answer, err := harness.Read(gates[int(n)%len(gates)], request)
				switch {
				case err != nil:
					t.Error(err)
				case answer.Status == http.StatusOK:
					passed.Add(1)
				case answer.Status == http.StatusTooManyRequests:
					limited.Add(1)
				default:
					t.Errorf("a flood is answered %s", answer)
				}
			}
		})
	}
	group.Wait()
	return passed.Load(), limited.Load()
}

// tooMany checks a 429: RFC 9110 §10.2.3, RFC 9457, and the headers of the
// draft.
func tooMany(t *testing.T, answer harness.Answer, policy string) {
	t.Helper()
	h := answer.Header
	if answer.Status != http.StatusTooManyRequests || h.Get("Retry-After") == "" || h.Get("Retry-After") == "0" ||
		!strings.Contains(h.Get("RateLimit-Policy"), policy) || !strings.Contains(h.Get("RateLimit"), ";r=0;t=") ||
		h.Get("X-RateLimit-Remaining") != "0" || h.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s %v", answer, h)
	}
	if problem := answer.JSON(t); problem["status"] != 429.0 || problem["request_id"] == "" {
		t.Errorf("the body is %v", problem)
	}
}

// second is another gateway of the site: a control plane, a rate-limit service
// and an Envoy, with the same issuer, authorizer, keys and Redis.
func second(t *testing.T, s *harness.System) (address string) {
	t.Helper()
	c := s.Config()
	address = harness.FreeAddress(t)
	c.Set("gateway.listen", address).Set("gateway.redirect_listen", nil)
	// Its own CA, sockets and state, and the first one's keys and authorizer.
	c.Set("data_dir", "data-2").Set("controlplane.rule_key", "data/keys/rule.key")
	c.Set("gateway.tls.certificate", "data/tls/edge.crt").Set("gateway.tls.key", "data/tls/edge.key")
	c.Set("controlplane.authz", []string{"unix:" + s.Socket("authz")})
	c.Set("controlplane.telemetry", harness.FreeAddress(t)).Set("ratelimit.telemetry", harness.FreeAddress(t))
	c.Set("envoy.admin", harness.FreeAddress(t)).Set("envoy.node", "edge-2")
	file := filepath.Join(s.Dir, "second.yaml")
	if err := os.WriteFile(file, c.YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"controlplane", "ratelimit", "envoy"} {
		s.Launch(t, part+"-second", exec.Command(harness.Binary(t), part, "--config", file))
	}
	harness.Eventually(t, 20*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return fmt.Errorf("the second gateway does not listen: %w\n%s", err, s.Process("controlplane-second").Log())
		}
		return conn.Close()
	})
	return address
}

// Two gateways that count in one Redis let exactly N of N+1 through together,
// and each its part while Redis is gone.
func TestLimitsShared(t *testing.T) {
	var redis *harness.Redis
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		redis = s.StartRedis(t)
		c.Set("gateway.limits", []any{limit("client", 50, "shared", true)})
		c.Set("ratelimit", map[string]any{
			"telemetry": harness.FreeAddress(t), "replicas": 2,
			"redis":        map[string]any{"address": redis.Address},
			"plans":        map[string]any{"free": map[string]any{"daily": 20}, "pro": map[string]any{"monthly": 1000}},
			"default_plan": "pro", "client_plans": map[string]any{"freeloader": "free"},
		})
		c.Get("issuer.apis").([]any)[0].(map[string]any)["claims"] = map[string]any{"plan": "attribute.plan"}
	}})
	one, two := gate(s, t, s.Gateway(), ""), gate(s, t, second(t, s), "")

	_, access := s.Robot(t, "robot", "read:orders")
	if let, refused := flood(t, s, 51, access, one, two); let != 50 || refused != 1 {
		t.Errorf("of 51 at once %d were let through and %d refused, want 50 and 1", let, refused)
	}
	tooMany(t, orders(s, t, one, "/orders", access), `"shared-gateway-client-3600s";q=50;w=3600`)
	tooMany(t, orders(s, t, two, "/orders", access), `"pro-month";q=1000`)
	_, other := s.Robot(t, "other", "read:orders")
	answer := orders(s, t, one, "/orders", other)
	if answer.Status != 200 || !strings.Contains(answer.Header.Get("RateLimit"), `"shared-gateway-client-3600s";r=49`) {
		t.Errorf("another client: %s %v", answer, answer.Header)
	}
	_, free := s.Robot(t, "freeloader", "read:orders")
	if let, refused := flood(t, s, 21, free, one, two); let != 20 || refused != 1 {
		t.Errorf("a plan's day: %d were let through and %d refused, want 20 and 1", let, refused)
	}
	// A person's plan comes with the token, by an attribute of the person's.
	shop, ada := s.AddShop(t, "shop", "read:orders"), s.AddUser(t, "ada", "customer")
	s.CLI(t, "user", "update", ada.Login, "--attribute", "plan=free")
	answer = orders(s, t, one, "/orders", s.Login(t, shop, ada, "read:orders").Access)
	if policy := answer.Header.Get("RateLimit-Policy"); answer.Status != 200 || !strings.Contains(policy, `"free-day";q=20`) {
		t.Errorf("a person's plan: %s, policy %s", answer, policy)
	}
	usage := s.CLI(t, "usage", "--client", "freeloader")
	if !strings.Contains(usage, "day") || !strings.Contains(usage, "20") || strings.Contains(usage, "robot") {
		t.Errorf("usage says:\n%s", usage)
	}

	redis.Kill()
	_, third := s.Robot(t, "third", "read:orders")
	for name, client := range map[string]*http.Client{"the first": one, "the second": two} {
		if let, refused := flood(t, s, 60, third, client); let != 25 || refused != 35 {
			t.Errorf("without Redis %s let %d through and refused %d, want 25 and 35", name, let, refused)
		}
	}
	if _, ready := s.Telemetry(t, harness.RateLimit, "/readyz"); !strings.Contains(ready, "degraded") {
		t.Errorf("without Redis /readyz says %q", ready)
	}
	if got := strings.Count(s.Process(harness.RateLimit).Log(), "Redis is out of reach"); got != 1 {
		t.Errorf("the log says so %d times", got)
	}
	redis.Start(t)
	for _, name := range []string{harness.RateLimit, "ratelimit-second"} {
		harness.Eventually(t, 10*time.Second, func() error {
			if !strings.Contains(s.Process(name).Log(), "Redis is back") {
				return fmt.Errorf("%s: %s", name, s.Process(name).Log())
			}
			return nil
		})
	}
	_, fourth := s.Robot(t, "fourth", "read:orders")
	if let, refused := flood(t, s, 51, fourth, one, two); let != 50 || refused != 1 {
		t.Errorf("with Redis again %d were let through and %d refused, want 50 and 1", let, refused)
	}

	s.Process(harness.RateLimit).Kill()
	harness.Eventually(t, 5*time.Second, s.Says(503, "GET", "/orders", other))
	s.StartPart(t, harness.RateLimit)
	harness.Eventually(t, 10*time.Second, s.Says(200, "GET", "/orders", other))
}

// What each Envoy counts for itself: exact, by caller, and in front of the check
// by address.
func TestLimitsInEnvoy(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("gateway.limits", []any{limit("client", 40), limit("address", 150)})
		c.Route("profile")["limits"] = []any{limit("token", 3)}
	}})
	from := func(address string) *http.Client { return gate(s, t, s.Gateway(), address) }
	_, access := s.Robot(t, "robot", "read:orders")
	if let, refused := flood(t, s, 41, access, from("127.0.1.1")); let != 40 || refused != 1 {
		t.Errorf("of 41 at once %d were let through and %d refused, want 40 and 1", let, refused)
	}
	tooMany(t, orders(s, t, from("127.0.1.2"), "/orders", access), `"gateway-client-3600s";q=40;w=3600`)

	// Forged tokens are refused by the check, fill no bucket and empty none.
	for i := range 4 {
		client := from(fmt.Sprintf("127.0.2.%d", i+1))
		for j := range 100 {
			if answer := orders(s, t, client, "/orders", access[:len(access)-8]+fmt.Sprintf("A%03dA%03d", i, j)); answer.Status != 401 {
				t.Fatalf("a forged token: %s", answer)
			}
		}
	}
	tooMany(t, orders(s, t, from("127.0.1.3"), "/orders", access), `"gateway-client-3600s";q=40;w=3600`)

	_, other := s.Robot(t, "other", "read:profile")
	client := from("127.0.1.4")
	for _, want := range []int{200, 200, 200, 429} {
		if answer := orders(s, t, client, "/profile", other); answer.Status != want {
			t.Errorf("another client's token: %s, want %d", answer, want)
		}
	}
	// An address without any token is refused before the check is asked.
	stranger := from("127.0.3.1")
	for range 150 {
		if answer := orders(s, t, stranger, "/orders", ""); answer.Status != 401 {
			t.Fatalf("within the limit: %s", answer)
		}
	}
	checks := s.Metric(t, harness.Authz, `gatehouse_authz_decisions_total{reason="no_credential",verdict="denied"}`)
	tooMany(t, orders(s, t, stranger, "/orders", ""), `"gateway-address-3600s";q=150;w=3600`)
	tooMany(t, orders(s, t, stranger, "/orders", "", "X-Forwarded-For", "127.0.3.2"), `"gateway-address-3600s"`)
	if after := s.Metric(t, harness.Authz, `gatehouse_authz_decisions_total{reason="no_credential",verdict="denied"}`); after != checks {
		t.Errorf("the check was asked %v times more", after-checks)
	}
	if answer := orders(s, t, from("127.0.3.2"), "/orders", ""); answer.Status != 401 {
		t.Errorf("another address: %s", answer)
	}
}

// Networks, live: a list's edit counts on open connections, and no header makes
// a client another.
func TestLimitsNetworks(t *testing.T) {
	list := ""
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		list = filepath.Join(s.Dir, "office.txt")
		if err := os.WriteFile(list, []byte("127.0.0.2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Set("gateway.ip_lists", map[string]any{"office": map[string]any{"file": "office.txt"}, "bad": map[string]any{"cidrs": []string{"127.0.0.3"}}})
		c.Set("gateway.networks", map[string]any{"deny": []string{"bad"}})
		c.Route("open")["networks"] = map[string]any{"allow": []string{"office"}}
		c.Set("gateway.issuer.restrict", []any{map[string]any{"path": "/oauth/admin/**", "networks": map[string]any{"allow": []string{"office"}}}})
	}})
	office, other, bad := gate(s, t, s.Gateway(), "127.0.0.2"), gate(s, t, s.Gateway(), "127.0.0.4"), gate(s, t, s.Gateway(), "127.0.0.3")
	for _, row := range []struct {
		client *http.Client
		path   string
		want   int
	}{
		{office, "/open/x", 200}, {other, "/open/x", 403}, {bad, "/open/x", 403},
		{other, "/.well-known/openid-configuration", 200}, {bad, "/.well-known/openid-configuration", 403},
		{office, "/oauth/admin/users", 404}, {other, "/oauth/admin/users", 403},
	} {
		for _, forged := range [][]string{nil, {"X-Forwarded-For", "127.0.0.2"}, {"Forwarded", "for=127.0.0.2"}, {"X-Real-Ip", "127.0.0.2"}} {
			if row.client == office && forged != nil {
				continue
			}
			if answer := orders(s, t, row.client, row.path, "", forged...); answer.Status != row.want {
				t.Errorf("%s with %v: %s, want %d", row.path, forged, answer, row.want)
			}
		}
	}
	if err := os.WriteFile(list, []byte("127.0.0.4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for client, want := range map[*http.Client]int{other: 200, office: 403} {
		harness.Eventually(t, 15*time.Second, func() error {
			if answer := orders(s, t, client, "/open/x", ""); answer.Status != want {
				return fmt.Errorf("after the edit: %s, want %d", answer, want)
			}
			return nil
		})
	}
}

// Over mutual TLS the rate-limit service takes Envoys of the trust domain and
// nobody else.
func TestLimitsMutualTLS(t *testing.T) {
	configure := overTLS(t)
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		configure(s, c)
		c.Set("gateway.limits", []any{limit("client", 2, "shared", true)})
		c.Set("ratelimit", map[string]any{
			"listen": harness.FreeAddress(t), "telemetry": harness.FreeAddress(t),
			"identity": map[string]any{"certificate": "data/identity/ratelimit.crt", "key": "data/identity/ratelimit.key", "ca": "data/ca/ca.crt"},
		})
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	for _, want := range []int{200, 200, 429} {
		s.Expect(t, want, "GET", "/orders", access)
	}
	caDir := filepath.Join(s.Dir, "data", "ca")
	ask := func(id serve.Identity) codes.Code {
		credentials, err := serve.DialCredentials(s.Config().Text("ratelimit.listen"), id, envoy.RateLimitIdentity(trustDomain))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(s.Config().Text("ratelimit.listen"), grpc.WithTransportCredentials(credentials))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		l := envoy.Limit{By: envoy.ByRoute, Scope: "x", Requests: 1, Burst: 1, Per: time.Hour}
		_, err = ratelimitv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, &ratelimitv3.RateLimitRequest{
			Domain:      envoy.LimitDomain,
			Descriptors: []*commonv3.RateLimitDescriptor{{Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: envoy.LimitEntry, Value: l.String()}}}},
		})
		return status.Code(err)
	}
	for name, row := range map[string]struct {
		id   serve.Identity
		want codes.Code
	}{
		"the edge":                {identity(t, caDir, "edge", envoy.EdgeIdentity(trustDomain)), codes.OK},
		"a sidecar":               {identity(t, caDir, "orders", envoy.ServiceIdentity(trustDomain, "orders")), codes.PermissionDenied},
		"an authorizer":           {identity(t, caDir, "authz", envoy.AuthzIdentity(trustDomain)), codes.PermissionDenied},
		"another trust domain":    {identity(t, caDir, "other", envoy.EdgeIdentity("other.local")), codes.Unavailable},
		"an edge by another CA's": {foreignCA(t, identity(t, caDir, "edge2", envoy.EdgeIdentity(trustDomain)), envoy.EdgeIdentity(trustDomain)), codes.Unavailable},
	} {
		if got := ask(row.id); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}
