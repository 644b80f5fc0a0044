package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
)

// mesh is orders and profile behind their sidecars; orders may call profile.
type mesh struct {
	*meshRig
	narrowed                                   bool // some check saw it
	orders, profile                            *service
	ordersIn, ordersOut, profileIn, profileOut string
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{
		orders: startService(t, "orders"), profile: &service{},
		ordersIn: freeAddress(t), ordersOut: freeAddress(t), profileIn: freeAddress(t), profileOut: freeAddress(t),
	}
	// profile answers REST and gRPC on one port.
	calls := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(calls, health.NewServer())
	url := startGRPC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.profile.keep(r)
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		fmt.Fprint(w, "profile")
	}))
	m.meshRig = newMeshRig(t, `
services:
  orders:
    url: `+m.orders.URL+`
    sidecar: {address: "`+m.ordersIn+`", outbound: "`+m.ordersOut+`"}
    routes:
      - {id: health, path: /healthz, public: true}
      - {id: orders, path: /orders/**, scopes: [read:orders]}
  profile:
    url: `+url+`
    sidecar: {address: "`+m.profileIn+`", outbound: "`+m.profileOut+`"}
    allow_from: [orders]
routes:
  - {id: orders, path: /orders/**, service: orders, audience: a, scopes: [read:orders]}
  - {id: admin, path: /profile/public/admin, service: profile, audience: a}
  - {id: public, path: /profile/public/**, service: profile, public: true}
  - {id: profile, path: /profile/**, service: profile, audience: a, timeout: 1m}
`)
	m.sidecar(t, "orders")
	m.sidecar(t, "profile")
	await(t, "the sidecars", m.settled)
	return m
}

func TestMesh(t *testing.T) {
	m := newMesh(t)
	t.Run("two hops", func(t *testing.T) { testTwoHops(t, m) })
	t.Run("between services", func(t *testing.T) { testBetweenServices(t, m) })
	t.Run("watched", func(t *testing.T) { testWatched(t, m) })
	t.Run("gRPC", func(t *testing.T) { testGRPC(t, m) })
	t.Run("around the edge", func(t *testing.T) { testAroundTheEdge(t, m) })
	t.Run("near misses", func(t *testing.T) { testNearMisses(t, m) })
	t.Run("around allow_from", func(t *testing.T) { testAroundAllowFrom(t, m) })
	t.Run("public", func(t *testing.T) { testPublicThroughSidecar(t, m) })
	t.Run("strips", func(t *testing.T) { testSidecarStrips(t, m) })
	t.Run("odd requests", func(t *testing.T) { testOddRequests(t, m) })
	t.Run("odd frames", func(t *testing.T) { testOddFrames(t, m) })
	t.Run("denied", func(t *testing.T) { testDenied(t, m) })
}

// client → edge → sidecar → service, each hop with its own check.
func testTwoHops(t *testing.T, m *mesh) {
	status, body := m.get(t, "/orders/1", "Authorization", bearer, "X-Request-Id", "mine")
	got := m.orders.last()
	if status != 200 || body != "orders" || got == nil {
		t.Fatalf("%d %s", status, body)
	}
	if got.Header.Get(envoy.AssertionHeader) != assertionFor("orders") || got.Header.Get(envoy.HeaderSubject) != "usr_1" {
		t.Errorf("the service sees %v", got.Header)
	}
	for _, name := range []string{"Authorization", "X-Forwarded-Client-Cert"} {
		if got.Header.Get(name) != "" {
			t.Errorf("%s reaches the service: %q", name, got.Header.Get(name))
		}
	}
	check := m.authz.last()
	if rule := ruleIn(t, check); m.authz.lastCaller() != envoy.ServiceIdentity(trustDomain, "orders") || rule.GetRoute() != "orders" ||
		rule.GetAudience() != envoy.ServiceIdentity(trustDomain, "orders") || check.GetSource().GetPrincipal() != envoy.EdgeIdentity(trustDomain) {
		t.Errorf("the last check is of %q for %v, the peer %q", m.authz.lastCaller(), rule, check.GetSource().GetPrincipal())
	}
	if id := got.Header.Get("X-Request-Id"); id == "" || id != check.GetRequest().GetHttp().GetId() && !strings.Contains(check.String(), id) {
		t.Errorf("the request id %q differs between hops", id)
	}
	if status, _ := m.get(t, "/orders/1"); status != 401 || m.orders.last() != nil {
		t.Errorf("without a token: %d", status)
	}
	if status, _ := m.get(t, "/profile/x", "Authorization", bearer); status != 200 || m.profile.last().Header.Get(envoy.AssertionHeader) != assertionFor("profile") {
		t.Errorf("profile: %d", status)
	}
}

// What may take long between workloads is watched at each Envoy, and nothing
// else; whoever watches is told who has a part in it.
func testWatched(t *testing.T, m *mesh) {
	edge, orders, profile := envoy.EdgeIdentity(trustDomain), envoy.ServiceIdentity(trustDomain, "orders"), envoy.ServiceIdentity(trustDomain, "profile")
	m.authz.watched()
	for _, c := range []struct {
		what string
		call func() (int, error)
		want []string
	}{
		{"a short one", func() (int, error) { status, _ := m.get(t, "/orders/1", "Authorization", bearer); return status, nil }, nil},
		{"from the edge", func() (int, error) { status, _ := m.get(t, "/profile/x", "Authorization", bearer); return status, nil }, []string{edge, profile}},
		{"between services", func() (int, error) {
			status, _, err := fetch(t, http.DefaultClient, "GET", "http://"+m.ordersOut+"/profile/x", "Host", "profile", "Gatehouse-Assertion", assertionFor("orders"))
			return status, err
		}, []string{orders, profile}},
	} {
		status, err := c.call()
		if got, headers := m.authz.watched(); err != nil || status != 200 || !slices.Equal(got, c.want) || headers > 0 {
			t.Errorf("%s: %d %v, watched for %q with %d headers, want %q", c.what, status, err, got, headers, c.want)
		}
	}
	m.profile.last()
	m.orders.last()
}

// service → its sidecar → the other's sidecar → the other service.
func testBetweenServices(t *testing.T, m *mesh) {
	plain := &http.Client{Timeout: 20 * time.Second}
	call := func(headers ...string) (int, *http.Request) {
		t.Helper()
		status, _, err := fetch(t, plain, "GET", "http://"+m.ordersOut+"/profile/x", headers...)
		if err != nil {
			t.Fatal(err)
		}
		return status, m.profile.last()
	}
	for _, host := range []string{"profile", "Profile", "profile:80", "profile."} {
		status, got := call("Host", host, "Gatehouse-Assertion", assertionFor("orders"), "Authorization", bearer)
		if status != 200 || got == nil || got.Header.Get(envoy.AssertionHeader) != assertionFor("profile") || got.Header.Get("Authorization") != "" {
			t.Errorf("as %s: %d, profile sees %v", host, status, got)
		}
	}
	if rule := ruleIn(t, m.authz.last()); rule.GetService() != "profile" {
		t.Errorf("the last rule is %v", rule)
	}
	// The caller may narrow what it passes on; the authorizer alone reads it.
	status, got := call("Host", "profile", "Gatehouse-Assertion", assertionFor("orders"), "Gatehouse-Narrow-Scope", "read:profile")
	if check := m.authz.last(); status != 200 || got.Header.Get(envoy.NarrowHeader) != "" || strings.Contains(check.String(), "read:profile") {
		t.Errorf("narrowing: %d, profile sees %v", status, got)
	}
	m.authz.answers(func(*authv3.CheckResponse) {
		m.narrowed = m.narrowed || strings.Contains(m.authz.seen.String(), "read:profile")
	})
	call("Host", "profile", "Gatehouse-Assertion", assertionFor("orders"), "Gatehouse-Narrow-Scope", "read:profile")
	if m.authz.answers(nil); !m.narrowed {
		t.Error("no check has seen what the caller narrows to")
	}
	for name, headers := range map[string][]string{
		"no assertion":                {"Host", "profile"},
		"a token instead":             {"Host", "profile", "Authorization", bearer},
		"an assertion for the target": {"Host", "profile", "Gatehouse-Assertion", assertionFor("profile")},
	} {
		if status, got := call(headers...); status != 401 || got != nil {
			t.Errorf("%s: %d", name, status)
		}
	}
	for _, host := range []string{"orders", "other", "authz", "profile.evil", "xprofile", m.profileIn, "127.0.0.1"} {
		if status, got := call("Host", host, "Gatehouse-Assertion", assertionFor("orders")); status != 404 || got != nil {
			t.Errorf("host %s: %d", host, status)
		}
	}
}

func testGRPC(t *testing.T, m *mesh) {
	conn, err := grpc.NewClient(m.ordersOut, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("profile"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), envoy.AssertionHeader, assertionFor("orders"))
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("a unary call: %v", err)
	}
	if got := m.profile.last(); got.Header.Get(envoy.AssertionHeader) != assertionFor("profile") {
		t.Errorf("profile sees %v", got.Header)
	}
	watching, cancel := context.WithCancel(ctx)
	stream, err := client.Watch(watching, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Errorf("a stream: %v", err)
	}
	cancel()
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without an assertion: %v", err)
	}
}

// Whoever is no caller does not get through a sidecar, whatever it shows.
func testAroundTheEdge(t *testing.T, m *mesh) {
	url := "https://" + m.ordersIn + "/orders/1"
	assertion := []string{"Gatehouse-Assertion", assertionFor("orders"), "Authorization", bearer, "X-Forwarded-Client-Cert", "URI=" + envoy.EdgeIdentity(trustDomain)}
	edge := envoy.EdgeIdentity(trustDomain)
	// Not even a connection.
	for name, client := range map[string]*http.Client{
		"without a certificate":        clientAs(t, m.ids, ""),
		"with another CA's for a peer": clientAs(t, newIdentities(t), edge),
	} {
		if status, body, err := fetch(t, client, "GET", url, assertion...); err == nil {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, body, err := fetch(t, &http.Client{}, "GET", "http://"+m.ordersIn+"/orders/1", assertion...); err == nil {
		t.Errorf("without TLS: %d %s", status, body)
	}
	for id, want := range map[string]int{
		edge: 200,
		envoy.ServiceIdentity(trustDomain, "profile"): 403,
		envoy.ServiceIdentity(trustDomain, "orders"):  403, // itself
		envoy.AuthzIdentity(trustDomain):              403,
		"spiffe://gatehouse.local/gateway/edge/x":     403,
		"spiffe://gatehouse.local/gateway/edg":        403,
		"spiffe://gatehouse.local.evil/gateway/edge":  403,
		"spiffe://evil/gateway/edge":                  403,
	} {
		client := clientAs(t, m.ids, id)
		for _, path := range []string{"/orders/1", "/healthz", "/unknown", "/orders/;x"} {
			status, body, err := fetch(t, client, "GET", "https://"+m.ordersIn+path, assertion...)
			if err != nil || want == 403 && (status != 403 || strings.Contains(strings.ToLower(body), "rbac") || strings.Contains(body, "spiffe")) {
				t.Errorf("%s as %q: %d %s %v", path, id, status, body, err)
			}
		}
		if got := m.orders.last(); (got != nil) != (want == 200) {
			t.Errorf("as %q the service is reached: %v", id, got != nil)
		}
	}
	// A caller needs the assertion for this service.
	client := clientAs(t, m.ids, edge)
	for _, headers := range [][]string{{}, {"Authorization", bearer}, {"Gatehouse-Assertion", assertionFor("profile")}} {
		if status, _, err := fetch(t, client, "GET", url, headers...); err != nil || status != 401 || m.orders.last() != nil {
			t.Errorf("with %v: %d %v", headers, status, err)
		}
	}
	if status, _, err := fetch(t, client, "GET", "https://"+m.ordersIn+"/elsewhere", assertion...); err != nil || status != 404 {
		t.Errorf("what the service's own routes have not: %d %v", status, err)
	}
	if status, _, err := fetch(t, client, "GET", "https://"+m.ordersIn+"/healthz"); err != nil || status != 200 || m.orders.last() == nil {
		t.Errorf("the service's public route: %d %v", status, err)
	}
}

// Certificates under the right root that our CA would not issue, and another
// signer might: who nearly is a caller is nobody.
func testNearMisses(t *testing.T, m *mesh) {
	edge, other := envoy.EdgeIdentity(trustDomain), envoy.ServiceIdentity(trustDomain, "profile")
	m.orders.last()
	m.profile.last()
	for name, row := range map[string]struct {
		uris, names []string
		want        int
	}{
		"the edge itself":        {uris: []string{edge}, want: 200},
		"a trailing slash":       {uris: []string{edge + "/"}},
		"capitals":               {uris: []string{"spiffe://gatehouse.local/gateway/Edge"}},
		"a capital scheme":       {uris: []string{"SPIFFE://gatehouse.local/gateway/edge"}},
		"a capital domain":       {uris: []string{"spiffe://Gatehouse.local/gateway/edge"}},
		"percent-encoding":       {uris: []string{"spiffe://gatehouse.local/gateway/%65dge"}},
		"an encoded slash":       {uris: []string{"spiffe://gatehouse.local/gateway%2fedge"}},
		"a query":                {uris: []string{edge + "?x"}},
		"a fragment":             {uris: []string{edge + "#x"}},
		"a port":                 {uris: []string{"spiffe://gatehouse.local:443/gateway/edge"}},
		"dots":                   {uris: []string{"spiffe://gatehouse.local/service/../gateway/edge"}},
		"a list":                 {uris: []string{edge + "," + edge}},
		"a semicolon":            {uris: []string{"spiffe://x/y;URI=" + edge}},
		"the other first":        {uris: []string{other, edge}},
		"the other last":         {uris: []string{edge, other}},
		"twice":                  {uris: []string{edge, edge}},
		"as a DNS name":          {names: []string{edge}},
		"as a second DNS name":   {names: []string{"x", edge}},
		"as a DNS name, another": {uris: []string{other}, names: []string{edge}},
		"nobody":                 {},
	} {
		client := m.ids.signed(t, row.uris, row.names)
		for _, path := range []string{"/orders/1", "/healthz"} {
			status, _, err := fetch(t, client, "GET", "https://"+m.ordersIn+path, "Gatehouse-Assertion", assertionFor("orders"))
			reached := m.orders.last() != nil
			if row.want == 200 && (err != nil || status != 200 || !reached) {
				t.Errorf("%s, %s: %d %v", name, path, status, err)
			}
			if row.want != 200 && (reached || err == nil && status != 403) {
				t.Errorf("%s, %s: %d %v, the service is reached: %v", name, path, status, err, reached)
			}
		}
		public, _, err := fetch(t, client, "GET", "https://"+m.profileIn+"/profile/public/x")
		if reached := m.profile.last() != nil; reached != (row.want == 200) {
			t.Errorf("%s, what is public for the edge: %d %v, the service is reached: %v", name, public, err, reached)
		}
	}
}

// profile may not call orders, neither by its sidecar nor directly.
func testAroundAllowFrom(t *testing.T, m *mesh) {
	status, _, err := fetch(t, &http.Client{}, "GET", "http://"+m.profileOut+"/orders/1", "Host", "orders", "Gatehouse-Assertion", assertionFor("profile"))
	if err != nil || status != 404 || m.orders.last() != nil {
		t.Errorf("by its sidecar: %d %v", status, err)
	}
	client := clientAs(t, m.ids, envoy.ServiceIdentity(trustDomain, "profile"))
	if status, _, err := fetch(t, client, "GET", "https://"+m.ordersIn+"/orders/1", "Gatehouse-Assertion", assertionFor("orders")); err != nil || status != 403 || m.orders.last() != nil {
		t.Errorf("directly: %d %v", status, err)
	}
}

// What the edge lets through without a token, the sidecar lets through without
// an assertion, from the edge and from nobody else; and no more than that.
func testPublicThroughSidecar(t *testing.T, m *mesh) {
	if status, body := m.get(t, "/profile/public/x"); status != 200 || body != "profile" || m.profile.last().Header.Get(envoy.AssertionHeader) != "" {
		t.Errorf("through the edge: %d %s", status, body)
	}
	if status, _ := m.get(t, "/profile/public/admin", "Authorization", bearer); status != 200 || m.profile.last().Header.Get(envoy.HeaderSubject) != "usr_1" {
		t.Errorf("a guarded route inside a public one: %d", status)
	}
	edge, orders := clientAs(t, m.ids, envoy.EdgeIdentity(trustDomain)), clientAs(t, m.ids, envoy.ServiceIdentity(trustDomain, "orders"))
	for _, row := range []struct {
		client *http.Client
		path   string
		sent   string
		want   int
	}{
		{edge, "/profile/public/x", "", 200},
		{edge, "/profile/public/admin", "", 401},
		{edge, "/profile/x", "", 401},
		{edge, "/profile/publicx", "", 401},
		{edge, "/profile/public/..%2fx", "", 400},
		{edge, "/profile/public/;x", "", 400},
		{orders, "/profile/public/x", "", 401},
		{orders, "/profile/public/x", assertionFor("profile"), 200},
		{orders, "/profile/public/admin", assertionFor("profile"), 200},
		{orders, "/profile/x", assertionFor("profile"), 200},
	} {
		headers := []string{"X-Forwarded-Client-Cert", "URI=" + envoy.EdgeIdentity(trustDomain)}
		if row.sent != "" {
			headers = append(headers, "Gatehouse-Assertion", row.sent)
		}
		status, _, err := fetch(t, row.client, "GET", "https://"+m.profileIn+row.path, headers...)
		if got := m.profile.last(); err != nil || status != row.want || (got != nil) != (row.want == 200) {
			t.Errorf("%s with %q, edge: %v: %d %v, want %d", row.path, row.sent, row.client == edge, status, err, row.want)
		}
	}
	// What nobody has verified is not handed on.
	fetch(t, edge, "GET", "https://"+m.profileIn+"/profile/public/x", "Gatehouse-Assertion", "forged")
	if got := m.profile.last(); got == nil || got.Header.Get(envoy.AssertionHeader) != "" {
		t.Errorf("an assertion on a public route arrives: %v", got)
	}
}

// A peer's word on who is calling counts no more than a client's.
func testSidecarStrips(t *testing.T, m *mesh) {
	edge := clientAs(t, m.ids, envoy.EdgeIdentity(trustDomain))
	for _, name := range []string{"X-Gatehouse-Subject", "x-gatehouse-roles", "X-Gatehouse-New", "X-Envoy-Original-Path", "X-Original-Url", "Forwarded", "X-Forwarded-Client-Cert", "Dpop", "Authorization"} {
		for url, service := range map[string]*service{"https://" + m.profileIn + "/profile/x": m.profile, "http://" + m.ordersOut + "/profile/x": m.profile} {
			headers := []string{"Gatehouse-Assertion", assertionFor("profile"), name, "forged"}
			client := edge
			if strings.HasPrefix(url, "http:") {
				client, headers = &http.Client{}, []string{"Host", "profile", "Gatehouse-Assertion", assertionFor("orders"), name, "forged"}
			}
			status, _, err := fetch(t, client, "GET", url, headers...)
			got := service.last()
			if err != nil || status != 200 || got == nil {
				t.Fatalf("%s with %s: %d %v", url, name, status, err)
			}
			for header, values := range got.Header {
				if strings.Contains(strings.Join(values, " "), "forged") {
					t.Errorf("%s with %s: %s arrives as %q", url, name, header, values)
				}
			}
		}
	}
	// HTTP/2 streams with such a header are reset.
	status, _, err := fetch(t, edge, "GET", "https://"+m.profileIn+"/profile/x", "x_gatehouse_subject", "forged", "Gatehouse-Assertion", assertionFor("profile"))
	if err == nil || m.profile.last() != nil {
		t.Errorf("underscores: %d", status)
	}
}

// Requests as no decent client writes them, from the edge's own identity: what
// two readers could take for two things is refused, and nothing of the gate's
// names comes through.
func testOddRequests(t *testing.T, m *mesh) {
	m.orders.last()
	m.profile.last()
	assertion := "Gatehouse-Assertion: " + assertionFor("profile") + "\r\n"
	for name, row := range map[string]struct {
		request string
		want    []int // 0: the connection is closed without an answer
	}{
		"as it should be":        {"GET /profile/x HTTP/1.1\r\nHost: profile\r\n" + assertion + "\r\n", []int{200}},
		"two hosts":              {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nHost: orders\r\n" + assertion + "\r\n", []int{400}},
		"no host":                {"GET /profile/x HTTP/1.1\r\n" + assertion + "\r\n", []int{400}},
		"HTTP/1.0":               {"GET /profile/x HTTP/1.0\r\n" + assertion + "\r\n", []int{400, 426}},
		"absolute form":          {"GET http://orders/profile/x HTTP/1.1\r\nHost: profile\r\n\r\n", []int{400, 401}},
		"another scheme":         {"GET file:///profile/x HTTP/1.1\r\nHost: profile\r\n\r\n", []int{400, 401, 404}},
		"a path without a slash": {"GET profile/x HTTP/1.1\r\nHost: profile\r\n" + assertion + "\r\n", []int{400, 404}},
		"no path":                {"GET  HTTP/1.1\r\nHost: profile\r\n" + assertion + "\r\n", []int{400}},
		"CONNECT":                {"CONNECT profile:443 HTTP/1.1\r\nHost: profile:443\r\n" + assertion + "\r\n", []int{400, 403, 404}},
		"CONNECT with a path":    {"CONNECT /profile/x HTTP/1.1\r\nHost: profile\r\n" + assertion + "\r\n", []int{400, 403, 404}},
		"h2c":                    {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" + assertion + "\r\n", []int{200, 403}},
		"a WebSocket":            {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n" + assertion + "\r\n", []int{403}},
		"a hop-by-hop assertion": {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nConnection: gatehouse-assertion\r\n" + assertion + "\r\n", []int{200, 401, 400}},
		"an underscore":          {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nx_gatehouse_subject: forged\r\n" + assertion + "\r\n", []int{400}},
		"a space in a name":      {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nX-Gatehouse-Subject : forged\r\n" + assertion + "\r\n", []int{400}},
		"a folded header":        {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nX: y\r\n X-Gatehouse-Subject: forged\r\n" + assertion + "\r\n", []int{200, 400}},
		"a bare line feed":       {"GET /profile/x HTTP/1.1\nHost: profile\nX-Gatehouse-Subject: forged\n\n", []int{400, 401}},
		"a null":                 {"GET /profile/x HTTP/1.1\r\nHost: profile\r\nX: a\x00b\r\n" + assertion + "\r\n", []int{400}},
		"two lengths":            {"POST /profile/x HTTP/1.1\r\nHost: profile\r\nContent-Length: 3\r\nContent-Length: 4\r\n" + assertion + "\r\nabcd", []int{400}},
		"a length and chunks":    {"POST /profile/x HTTP/1.1\r\nHost: profile\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n" + assertion + "\r\n0\r\n\r\n", []int{400}},
		"chunks twice":           {"POST /profile/x HTTP/1.1\r\nHost: profile\r\nTransfer-Encoding: chunked, chunked\r\n" + assertion + "\r\n0\r\n\r\n", []int{400, 501}},
		"another encoding":       {"POST /profile/x HTTP/1.1\r\nHost: profile\r\nTransfer-Encoding: xchunked\r\n" + assertion + "\r\n0\r\n\r\n", []int{400, 501}},
		"a pseudo-header":        {"GET /profile/x HTTP/1.1\r\nHost: profile\r\n:path: /orders/1\r\n" + assertion + "\r\n", []int{400}},
	} {
		t.Run(name, func(t *testing.T) {
			got := m.raw(t, m.profileIn, row.request)
			if !slices.Contains(row.want, got) {
				t.Errorf("answered %d, want one of %v", got, row.want)
			}
			heard := m.profile.last()
			if (heard != nil) != (got == 200) {
				t.Errorf("answered %d, and the service is reached: %v", got, heard != nil)
			}
			if heard == nil {
				return
			}
			if heard.Host != "profile" || heard.URL.Path != "/profile/x" || heard.Header.Get("Upgrade") != "" {
				t.Errorf("the service hears of %s %s: %v", heard.Host, heard.URL, heard.Header)
			}
			for header, values := range heard.Header {
				if strings.Contains(strings.Join(values, " "), "forged") && strings.HasPrefix(strings.ToLower(header), "x-gatehouse") {
					t.Errorf("%s arrives: %q", header, values)
				}
			}
		})
	}
}

// The same over HTTP/2, frame by frame (RFC 9113 §8.3).
func testOddFrames(t *testing.T, m *mesh) {
	m.profile.last()
	plain := []string{":method", "GET", ":scheme", "https", ":authority", "profile", ":path", "/profile/x", "gatehouse-assertion", assertionFor("profile")}
	with := func(more ...string) []string { return append(slices.Clone(plain), more...) }
	without := func(name string, more ...string) []string {
		at := slices.Index(plain, name)
		return append(slices.Delete(slices.Clone(plain), at, at+2), more...)
	}
	instead := func(name, value string) []string {
		fields := slices.Clone(plain)
		fields[slices.Index(fields, name)+1] = value
		return fields
	}
	var refused sync.WaitGroup
	var taken [][]string
	for name, row := range map[string]struct {
		fields []string
		want   []int // 0: the stream or the connection is reset
	}{
		"as it should be":         {plain, []int{200}},
		"two authorities":         {append([]string{":authority", "orders"}, plain...), []int{0, 400}},
		"another host":            {with("host", "orders"), []int{0, 200, 400}},
		"a host alone, twice":     {without(":authority", "host", "profile", "host", "orders"), []int{0, 400}},
		"a list of authorities":   {instead(":authority", "profile,orders"), []int{0, 400}},
		"somebody's authority":    {instead(":authority", "user@profile"), []int{0, 400}},
		"a path without a slash":  {instead(":path", "profile/x"), []int{0, 400, 404}},
		"an absolute path":        {instead(":path", "https://orders/profile/x"), []int{0, 400, 404}},
		"no path":                 {without(":path"), []int{0, 400}},
		"an empty path":           {instead(":path", ""), []int{0, 400}},
		"two paths":               {append([]string{":path", "/orders/1"}, plain...), []int{0, 400}},
		"two methods":             {append([]string{":method", "POST"}, plain...), []int{0, 400}},
		"CONNECT":                 {instead(":method", "CONNECT"), []int{0, 400, 403, 404}},
		"extended CONNECT":        {append([]string{":protocol", "websocket"}, instead(":method", "CONNECT")...), []int{0, 400, 403, 404}},
		"an unknown pseudo":       {append([]string{":x", "y"}, plain...), []int{0, 400}},
		"a late pseudo":           {with(":path", "/orders/1"), []int{0, 400}},
		"capitals":                {with("X-Gatehouse-Subject", "forged"), []int{0, 400}},
		"an underscore":           {with("x_gatehouse_subject", "forged"), []int{0, 400}},
		"te: trailers":            {with("te", "trailers"), []int{200}},
		"te: gzip":                {with("te", "gzip"), []int{0, 200, 400}},
		"a connection":            {with("connection", "gatehouse-assertion"), []int{0, 400}},
		"an upgrade":              {with("upgrade", "websocket"), []int{0, 400}},
		"chunks":                  {with("transfer-encoding", "chunked"), []int{0, 400}},
		"a line feed in a value":  {with("x", "y\r\nx-gatehouse-subject: forged"), []int{0, 400}},
		"a null in a value":       {with("x", "y\x00"), []int{0, 400}},
		"a length that is no one": {with("content-length", "5"), []int{0, 400}},
	} {
		if !slices.Contains(row.want, 200) { // Envoy takes a second to close on one
			conn := m.asEdge(t, m.profileIn, "h2")
			refused.Go(func() {
				if got := m.frames(t, conn, row.fields); !slices.Contains(row.want, got) {
					t.Errorf("%s: answered %d, want one of %v", name, got, row.want)
				}
			})
			continue
		}
		taken = append(taken, row.fields)
	}
	refused.Wait()
	if heard := m.profile.last(); heard != nil {
		t.Errorf("the service hears of %s %s: %v", heard.Host, heard.URL, heard.Header)
	}
	for _, fields := range taken {
		got, heard := m.frames(t, m.asEdge(t, m.profileIn, "h2"), fields), m.profile.last()
		if (heard != nil) != (got == 200) {
			t.Errorf("%q is answered %d, and the service is reached: %v", fields, got, heard != nil)
		}
		if heard != nil && (heard.Host != "profile" || heard.URL.Path != "/profile/x" || heard.Header.Get(envoy.HeaderSubject) != "usr_1" || heard.Header.Get("Host") != "") {
			t.Errorf("the service hears of %s %s: %v", heard.Host, heard.URL, heard.Header)
		}
	}
}

// A revoked workload is cut off at once, on connections that stand, and its
// Envoy gets nothing any more; once it is forgiven all works again.
func testDenied(t *testing.T, m *mesh) {
	orders := clientAs(t, m.ids, envoy.ServiceIdentity(trustDomain, "orders"))
	ask := func() int {
		status, _, err := fetch(t, orders, "GET", "https://"+m.profileIn+"/profile/x", "Gatehouse-Assertion", assertionFor("profile"))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	through := func() int { status, _ := m.get(t, "/orders/1", "Authorization", bearer); return status }
	if a, b := ask(), through(); a != 200 || b != 200 {
		t.Fatalf("before: %d and %d", a, b)
	}
	listener := m.server.goals()["service/profile"].types[listenerType][inboundListener].GetVersion()
	m.deny.set(envoy.ServiceIdentity(trustDomain, "orders"))
	await(t, "the revocation", func() error {
		if a, b := ask(), through(); a != 403 || b != 503 {
			return fmt.Errorf("%d and %d", a, b)
		}
		return nil
	})
	if m.server.goals()["service/profile"].types[listenerType][inboundListener].GetVersion() != listener {
		t.Error("the listener changed, which drains connections")
	}
	await(t, "its Envoy's stream to end", func() error {
		if nodes := m.server.Status().Groups["service/orders"].Nodes; len(nodes) > 0 {
			return fmt.Errorf("%v", nodes)
		}
		return nil
	})
	m.deny.set()
	await(t, "all to be well", func() error {
		if a, b := ask(), through(); a != 200 || b != 200 {
			return fmt.Errorf("%d and %d", a, b)
		}
		return m.settled()
	})
}
