package controlplane

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// edgeGateway has a guarded, a public and a forwarding route.
func edgeGateway(orders, site *service) string {
	return `
issuer: {url: ` + site.URL + `}
services: {orders: {url: ` + orders.URL + `}, site: {url: ` + site.URL + `}}
routes:
  - {id: orders-list, path: /orders, methods: [GET], service: orders, audience: a, scopes: [read:orders]}
  - {id: orders-read, path: "/orders/{id}", methods: [GET, PUT], service: orders, audience: a, scopes: [read:orders]}
  - {id: own, path: /own, service: orders, audience: a, forward_credentials: true}
  - {id: orders-batch, path: "/public/orders:batch", service: orders, audience: a}
  - {id: costly, path: "` + longestPath() + `", service: orders, audience: a}
  - {id: public, path: /public/**, service: site, public: true}
`
}

const bearer = "Bearer good"

func TestEdge(t *testing.T) {
	orders, site := startService(t, "orders"), startService(t, "site")
	r := newRig(t, edgeGateway(orders, site))
	t.Run("strips", func(t *testing.T) { testStrips(t, r, orders, site) })
	t.Run("forwarded for", func(t *testing.T) { testForwardedFor(t, r, orders, site) })
	t.Run("credentials", func(t *testing.T) { testCredentials(t, r, orders, site) })
	t.Run("cookies", func(t *testing.T) { testCookies(t, r, orders, site) })
	t.Run("paths", func(t *testing.T) { testPaths(t, r, orders, site) })
	t.Run("unknown", func(t *testing.T) { testUnknown(t, r, orders, site) })
	t.Run("check", func(t *testing.T) { testCheck(t, r) })
	t.Run("responses", func(t *testing.T) { testResponses(t, r) })
	t.Run("TLS", func(t *testing.T) { testTLS(t, r) })
	t.Run("upgrades", func(t *testing.T) { testUpgrades(t, r, site) })
	t.Run("redirect", func(t *testing.T) { testRedirect(t, r) })
	t.Run("access log", func(t *testing.T) { testAccessLog(t, r) })
	t.Run("authorizer oversteps", func(t *testing.T) { testOverstepping(t, r, orders) })
	t.Run("authorizer gone", func(t *testing.T) { testNoAuthorizer(t, r, orders) })
}

// A path that leads to a guarded route in any server's reading is checked as
// that route, or refused.
func testPaths(t *testing.T, r *rig, orders, site *service) {
	for _, path := range []string{
		// Normalised before the route is chosen (RFC 3986 §5.2.4, §6.2.2).
		"/public/../orders", "/public/%2e%2e/orders", "/public/%2E%2e/orders", "/public/.%2e/orders", "/public/./../orders",
		"//orders", "/public/..//orders", `/public/..\orders`, `\orders`, "/%6frders",
		// Refused: servers differ.
		"/public/..;/orders", "/public/..;x=1/orders", "/public/%2e%2e;/orders", "/public/%2e%2e%3b/orders", "/public/..%3b/orders", "/public/..%3B/orders",
		`/public/\..;\orders`, "/public%2f..%2forders", "/public/..%2forders", "/public/%2e%2e%2forders", "/public/..%5corders", "/public%5c..%5corders",
		"/orders%00", "/public/..%00/orders", "/public/..#/orders",
		"/public/a;b/c", "/public/;", "/public/orders%3bx=1", "/orders;x", "/public/x/;../orders",
		// Guarded in either spelling (RFC 3986 §2.2).
		"/public/orders:batch", "/public/orders%3abatch", "/public/orders%3Abatch", "/public/%6frders%3Abatch",
	} {
		status, body := r.get(t, path)
		site, orders := site.last(), orders.last()
		if status == http.StatusOK || orders != nil || site != nil {
			t.Errorf("%s: %d %s", path, status, body)
		}
		r.authz.last()
	}
	// Below the public route, and nothing else in any reading.
	for _, path := range []string{"/public", "/public/", "/public/orders", "/public/a%3ab/c", "/public/...", "/public/%20", "/public//../orders"} {
		if status, body := r.get(t, path); status != http.StatusOK || body != "site" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// An unknown path and an unknown method are 404, and nobody is asked.
func testUnknown(t *testing.T, r *rig, orders, site *service) {
	for _, row := range [][2]string{
		{"GET", "/"}, {"GET", "/unknown"}, {"GET", "/orders/"}, {"GET", "/Orders"}, {"GET", "/ordersx"}, {"GET", "/orders/1/2"}, {"GET", "/orders//"},
		{"POST", "/orders"}, {"HEAD", "/orders"}, {"OPTIONS", "/orders"}, {"DELETE", "/orders/1"}, {"GET", "/publicity"},
	} {
		r.authz.last()
		orders.last()
		site.last()
		response, body := r.ask(t, r.http1, row[0], row[1], "Authorization", bearer)
		if response.StatusCode != http.StatusNotFound || row[0] != "HEAD" && response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s %s", row[0], row[1], response.StatusCode, response.Header, body)
		}
		if r.authz.last() != nil || orders.last() != nil || site.last() != nil {
			t.Errorf("%s %s reached somebody", row[0], row[1])
		}
	}
	// gRPC: UNIMPLEMENTED, as for an unknown method.
	response, _ := r.ask(t, r.client, "POST", "/unknown.Service/Method", "Content-Type", "application/grpc", "Te", "trailers")
	if response.StatusCode != http.StatusOK || response.Header.Get("Grpc-Status") != "12" {
		t.Errorf("gRPC: %d, grpc-status %q", response.StatusCode, response.Header.Get("Grpc-Status"))
	}
}

// Each route's own rule reaches the check, with faithful headers, and public
// routes are not checked.
func testCheck(t *testing.T, r *rig) {
	r.get(t, "/orders", "Authorization", "Bearer bad", "Authorization", "Bearer good", "X-Other", "secret")
	list := r.authz.last()
	if got := ruleIn(t, list).GetRoute(); got != "orders-list" {
		t.Errorf("the rule is %q's", got)
	}
	var authorizations string
	for _, h := range list.GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
		if h.GetKey() == "authorization" {
			authorizations += string(h.GetRawValue())
		}
		if h.GetKey() == "x-other" || h.GetKey() == "cookie" {
			t.Errorf("the check carries %s, which nobody reads", h.GetKey())
		}
	}
	if !strings.Contains(authorizations, "bad") || !strings.Contains(authorizations, "good") {
		t.Errorf("of two Authorization headers only %q arrives", authorizations)
	}
	if status, _ := r.get(t, "/orders/7"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	if got := ruleIn(t, r.authz.last()).GetRoute(); got != "orders-read" {
		t.Errorf("the rule is %q's", got)
	}
	for _, path := range []string{"/public/x", "/oauth/keys", "/unknown"} {
		if r.get(t, path); r.authz.last() != nil {
			t.Errorf("%s was checked", path)
		}
	}
}

func ruleIn(t *testing.T, check *authv3.AttributeContext) *rulev1.Rule {
	t.Helper()
	rule, err := decodeRule(check)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

func decodeRule(check *authv3.AttributeContext) (*rulev1.Rule, error) {
	if check == nil || len(check.GetContextExtensions()) != 1 {
		return nil, fmt.Errorf("the check has no rule alone: %v", check.GetContextExtensions())
	}
	raw, err := base64.RawURLEncoding.DecodeString(check.GetContextExtensions()[envoy.RuleExtension])
	if err != nil {
		return nil, err
	}
	signed, rule := new(rulev1.SignedRule), new(rulev1.Rule)
	if err := proto.Unmarshal(raw, signed); err != nil {
		return nil, err
	}
	return rule, proto.Unmarshal(signed.GetRule(), rule)
}

// An authorizer that sets what is not its to set is not obeyed.
func testOverstepping(t *testing.T, r *rig, orders *service) {
	for _, name := range []string{"authorization", "x-forwarded-for", "x-custom", "host"} {
		r.authz.answers(func(response *authv3.CheckResponse) {
			ok := response.GetOkResponse()
			ok.Headers = append(ok.Headers, overwrite(name, "forged"))
		})
		orders.last()
		status, _ := r.get(t, "/orders", "Authorization", bearer)
		if got := orders.last(); status == http.StatusOK || got != nil {
			t.Errorf("an authorizer that sets %s: %d, the service sees %v", name, status, got)
		}
	}
	r.authz.answers(nil)
}

// Without an authorizer nothing guarded passes, and the rest goes on.
func testNoAuthorizer(t *testing.T, r *rig, orders *service) {
	r.authz.stop()
	if status, _ := r.get(t, "/orders", "Authorization", bearer); status != http.StatusServiceUnavailable || orders.last() != nil {
		t.Errorf("with no authorizer: %d", status)
	}
	if status, _ := r.get(t, "/public/x"); status != http.StatusOK {
		t.Errorf("a public route without an authorizer: %d", status)
	}
	r.authz = startStubAuthz(t, r.authz.address)
	if status, _ := r.get(t, "/orders", "Authorization", bearer); status != http.StatusOK {
		t.Errorf("with the authorizer back: %d", status)
	}
}
