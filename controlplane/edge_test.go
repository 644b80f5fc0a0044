package controlplane

import (
	"encoding/base64"
	"errors"
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
  - {id: public, path: /public/**, service: site, public: true}
`
}

const bearer = "Bearer good"

func TestEdge(t *testing.T) {
	orders, site := startService(t, "orders"), startService(t, "site")
	r := newRig(t, edgeGateway(orders, site))
	t.Run("strips", func(t *testing.T) { testStrips(t, r, orders, site) })
	t.Run("credentials", func(t *testing.T) { testCredentials(t, r, orders, site) })
	t.Run("cookies", func(t *testing.T) { testCookies(t, r, orders, site) })
	t.Run("paths", func(t *testing.T) { testPaths(t, r, orders, site) })
	t.Run("unknown", func(t *testing.T) { testUnknown(t, r, orders, site) })
	t.Run("check", func(t *testing.T) { testCheck(t, r) })
	t.Run("responses", func(t *testing.T) { testResponses(t, r) })
	t.Run("redirect", func(t *testing.T) { testRedirect(t, r) })
	t.Run("access log", func(t *testing.T) { testAccessLog(t, r) })
	t.Run("authorizer oversteps", func(t *testing.T) { testOverstepping(t, r, orders) })
	t.Run("authorizer gone", func(t *testing.T) { testNoAuthorizer(t, r, orders) })
}

// What a client says of itself reaches nobody, on any kind of route.
func testStrips(t *testing.T, r *rig, orders, site *service) {
	for _, spelling := range []string{
		"x-gatehouse-subject", "X-Gatehouse-Subject", "X-GATEHOUSE-SUBJECT", "x-gatehouse-", "X-Gatehouse-Anything-New",
		"x-gatehouse-roles", "gatehouse-assertion", "Gatehouse-Assertion",
		"x-envoy-original-path", "X-Envoy-Upstream-Rq-Timeout-Ms", "x-envoy-internal", "x-envoy-external-address", "X-Envoy-Max-Retries", "x-envoy-expected-rq-timeout-ms",
		"x-forwarded-host", "X-Original-URL", "x-rewrite-url", "X-HTTP-Method-Override", "Forwarded",
	} {
		for path, service := range map[string]*service{"/orders": orders, "/own": orders, "/public/x": site, "/oauth/token": site} {
			for _, client := range []*http.Client{r.http1, r.client} {
				response, _ := r.ask(t, client, http.MethodGet, path, spelling, "forged", "Authorization", bearer)
				got := service.last()
				if response.StatusCode != http.StatusOK || got == nil {
					t.Fatalf("%s with %s: %d", path, spelling, response.StatusCode)
				}
				for name, values := range got.Header {
					if strings.Contains(strings.Join(values, " "), "forged") {
						t.Errorf("%s with %s: %s arrives as %q", path, spelling, name, values)
					}
				}
			}
		}
		if check := r.authz.last(); check == nil || strings.Contains(check.String(), "forged") {
			t.Errorf("the check of %s saw %v", spelling, check)
		}
	}
	for _, spelling := range []string{"x_gatehouse_subject", "X_Gatehouse-Subject", "gatehouse_assertion"} {
		if status, _ := r.get(t, "/public/x", spelling, "forged"); status != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", spelling, status)
		}
	}
	if _, _ = r.get(t, "/orders", "Authorization", bearer); orders.last().Header.Get(envoy.HeaderSubject) != "usr_1" {
		t.Error("what the authorizer set does not arrive")
	}
	if _, _ = r.get(t, "/public/x", "Authorization", bearer); site.last().Header.Get(envoy.HeaderSubject) != "" {
		t.Error("a public route has a subject")
	}
}

// Credentials stop at the gate, unless the route forwards them.
func testCredentials(t *testing.T, r *rig, orders, site *service) {
	for _, name := range []string{"Authorization", "Dpop", "Proxy-Authorization"} {
		for path, row := range map[string]struct {
			service *service
			arrives bool
		}{"/orders": {orders, false}, "/public/x": {site, false}, "/own": {orders, true}, "/oauth/token": {site, true}} {
			headers := []string{name, bearer}
			if name != "Authorization" {
				headers = append(headers, "Authorization", bearer)
			}
			r.get(t, path, headers...)
			if got := row.service.last().Header.Get(name) != ""; got != row.arrives {
				t.Errorf("%s on %s arrives: %v, want %v", name, path, got, row.arrives)
			}
		}
	}
}

// The gate's own cookies never reach a service; others do, whole.
func testCookies(t *testing.T, r *rig, orders, site *service) {
	for _, row := range []struct {
		sent []string
		want string
	}{
		{[]string{"__Host-gatehouse-session=s"}, ""},
		{[]string{"a=1; __Host-gatehouse-session=s; b=2"}, "a=1; b=2"},
		{[]string{"gatehouse-session=s;a=1"}, "a=1"},
		{[]string{"__Host-gatehouse-flow-x=y==; a=1==; theme=gatehouse-session"}, "a=1==; theme=gatehouse-session"},
		{[]string{"__HOST-Gatehouse-Session=s; a=1"}, "a=1"},
		{[]string{"a=1", "__Host-gatehouse-session=s; b=2"}, "a=1; b=2"},
		{[]string{"a=1;  b=2"}, "a=1;  b=2"},
	} {
		for path, service := range map[string]*service{"/orders": orders, "/public/x": site} {
			headers := []string{"Authorization", bearer}
			for _, c := range row.sent {
				headers = append(headers, "Cookie", c)
			}
			r.get(t, path, headers...)
			if got := service.last().Header.Get("Cookie"); got != row.want {
				t.Errorf("%s with %q: %q arrives, want %q", path, row.sent, got, row.want)
			}
		}
		r.get(t, "/oauth/login", "Cookie", row.sent[0])
		if got := site.last().Header.Get("Cookie"); got != row.sent[0] {
			t.Errorf("the issuer gets %q of %q", got, row.sent[0])
		}
	}
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
		`/public/\..;\orders`, "/public/.;/../orders", "/public%2f..%2forders", "/public/..%2forders", "/public/%2e%2e%2forders", "/public/..%5corders", "/public%5c..%5corders",
		"/orders%00", "/public/..%00/orders", "/public/..#/orders",
	} {
		status, body := r.get(t, path)
		site, orders := site.last(), orders.last()
		if status == http.StatusOK || orders != nil || site != nil {
			t.Errorf("%s: %d %s", path, status, body)
		}
		r.authz.last()
	}
	// Below the public route, and nothing else in any reading.
	for _, path := range []string{"/public", "/public/", "/public/orders", "/public/a;b/c", "/public/...", "/public/%20", "/public//../orders"} {
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
	if check == nil || len(check.GetContextExtensions()) != 1 {
		t.Fatalf("the check has no rule alone: %v", check.GetContextExtensions())
	}
	raw, err := base64.RawURLEncoding.DecodeString(check.GetContextExtensions()[envoy.RuleExtension])
	if err != nil {
		t.Fatal(err)
	}
	signed, rule := new(rulev1.SignedRule), new(rulev1.Rule)
	if err := proto.Unmarshal(raw, signed); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(signed.GetRule(), rule); err != nil {
		t.Fatal(err)
	}
	return rule
}

// Answers tell a request id and to come by HTTPS, and not what software gives
// them: allowed, denied, unknown and refused ones alike.
func testResponses(t *testing.T, r *rig) {
	for path, want := range map[string]int{"/public/x": 200, "/orders": 401, "/unknown": 404, "/public/%2e%2e;/x": 400} {
		response, _ := r.ask(t, r.client, http.MethodGet, path)
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
		if got := response.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("%s: Strict-Transport-Security %q", path, got)
		}
		if len(response.Header.Get("X-Request-Id")) != 36 {
			t.Errorf("%s: X-Request-Id %q", path, response.Header.Get("X-Request-Id"))
		}
		for name := range response.Header {
			if name == "Server" || name == "X-Powered-By" || strings.HasPrefix(name, "X-Envoy") {
				t.Errorf("%s tells %s: %q", path, name, response.Header[name])
			}
		}
	}
	response, _ := r.ask(t, r.client, http.MethodGet, "/public/x", "X-Request-Id", "mine")
	if response.Header.Get("X-Request-Id") == "mine" {
		t.Error("a client chose its request id")
	}
}

// Plain HTTP leads to public_url whatever the client says its host is.
func testRedirect(t *testing.T, r *rig) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.gateway.RedirectListen+"/orders?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	response, err := r.http1.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := response.Header.Get("Location"), r.gateway.PublicURL+"/orders?a=b"; response.StatusCode != http.StatusPermanentRedirect || got != want {
		t.Errorf("%d to %q, want 308 to %q", response.StatusCode, got, want)
	}
	if response.Header.Get("Strict-Transport-Security") != "" {
		t.Error("HSTS over plain HTTP (RFC 6797 §7.2)")
	}
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

// The access log names the route and the subject, and keeps tokens and queries
// to itself.
func testAccessLog(t *testing.T, r *rig) {
	response, _ := r.ask(t, r.client, http.MethodGet, "/orders?code=QUERYSECRET", "Authorization", bearer, "Cookie", "a=COOKIESECRET")
	id := response.Header.Get("X-Request-Id")
	var line string
	await(t, "the request's line in the access log", func() error {
		for l := range strings.Lines(r.accessLog.String()) {
			if strings.Contains(l, id) {
				line = l
				return nil
			}
		}
		return errors.New("it is not there")
	})
	for _, want := range []string{`"route":"orders-list"`, `"subject":"usr_1"`, `"path":"/orders"`, `"status":200`} {
		if !strings.Contains(line, want) {
			t.Errorf("the line lacks %s: %s", want, line)
		}
	}
	if strings.Contains(line, "SECRET") || strings.Contains(line, "good") {
		t.Errorf("the line tells a secret: %s", line)
	}
}
