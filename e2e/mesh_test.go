package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
)

var (
	ordersID  = envoy.ServiceIdentity(trustDomain, harness.OrdersService)
	profileID = envoy.ServiceIdentity(trustDomain, harness.ProfileService)
	edgeID    = envoy.EdgeIdentity(trustDomain)
)

// mesh is a Mesh with two tokens of one client, which may both read; one may
// write, too.
type mesh struct {
	*harness.Mesh
	robot         harness.Client
	reads, writes string
}

func startMesh(t *testing.T, o harness.Options) *mesh {
	t.Helper()
	m := &mesh{Mesh: harness.StartMesh(t, o)}
	m.robot, m.writes = m.Robot(t, "robot", "read:orders", "write:orders")
	m.reads = m.Token(t, m.robot, "read:orders")
	harness.Eventually(t, 20*time.Second, m.Says(200, "GET", "/orders/1", m.reads))
	harness.Eventually(t, 20*time.Second, m.Says(200, "GET", toProfile("GET", "/profile/1"), m.reads))
	return m
}

// toProfile is the path at which orders calls profile on the caller's behalf.
func toProfile(method, path string, narrow ...string) string {
	return call("profile", method, path, narrow...)
}

func call(to, method, path string, narrow ...string) string {
	query := url.Values{"to": {to}, "method": {method}, "path": {path}}
	if len(narrow) > 0 {
		query.Set("narrow", strings.Join(narrow, " "))
	}
	return "/orders/call?" + query.Encode()
}

// hears is what a service heard of a call through the gate.
func (m *mesh) hears(t *testing.T, method, path, access string) (h harness.Heard) {
	t.Helper()
	answer := m.Expect(t, 200, method, path, access)
	if err := json.Unmarshal([]byte(answer.Body), &h); err != nil {
		t.Fatalf("%s %s is answered %s: %v", method, path, answer, err)
	}
	return h
}

// nobodyHears fails if a call lets anything arrive at a service.
func (m *mesh) nobodyHears(t *testing.T, service string, call func()) {
	t.Helper()
	before := m.Members[service].Report(t).Arrived
	if call(); m.Members[service].Report(t).Arrived != before {
		t.Errorf("a refused request arrives at %s", service)
	}
}

// Two services behind sidecars, each part a process of its own.
func TestMesh(t *testing.T) {
	m := startMesh(t, harness.Options{})
	for _, part := range []struct {
		name string
		test func(*testing.T, *mesh)
	}{
		{"two hops", meshTwoHops},
		{"on behalf", meshOnBehalf},
		{"narrowing", meshNarrows},
		{"around the edge", meshAroundTheEdge},
		{"around the sidecar", meshAroundTheSidecar},
		{"forgeries of clients", meshForgedByClients},
		{"forgeries of services", meshForgedByServices},
		{"the edge's rule is wrong", meshWrongRule},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, m) })
	}
}

// client → edge → sidecar → orders: the middleware has verified the assertion,
// and the plain headers, made anew by the sidecar, say the same.
func meshTwoHops(t *testing.T, m *mesh) {
	got := m.hears(t, "GET", "/orders/1", m.reads)
	if got.Subject != m.robot.ID || got.Audience != ordersID || got.Requester != edgeID || len(got.Actors) > 0 || !slices.Equal(got.Scopes, []string{"read:orders"}) {
		t.Errorf("the service hears %+v", got)
	}
	for name, want := range map[string]string{
		envoy.HeaderSubject: m.robot.ID, envoy.HeaderSubjectType: "client", envoy.HeaderClientID: m.robot.ID,
		envoy.HeaderScope: "read:orders", envoy.HeaderIssuer: m.URL(""),
	} {
		if values := got.Header[name]; !slices.Equal(values, []string{want}) {
			t.Errorf("%s is %q, want %q", name, values, want)
		}
	}
	for _, name := range []string{"authorization", "x-forwarded-client-cert", envoy.HeaderActor} {
		if got.Has(name) {
			t.Errorf("%s reaches the service: %q", name, got.Header[name])
		}
	}
	if id := got.Header["x-request-id"]; len(id) != 1 || got.Transaction == "" {
		t.Errorf("the request id is %q, the transaction %q", id, got.Transaction)
	}
}

// orders → its sidecar → profile's sidecar → profile, for the client.
func meshOnBehalf(t *testing.T, m *mesh) {
	answer := m.Expect(t, 200, "GET", toProfile("GET", "/profile/1"), m.reads)
	var got harness.Heard
	if err := json.Unmarshal([]byte(answer.Body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Service != "profile" || got.Subject != m.robot.ID || got.Audience != profileID || got.Requester != ordersID ||
		!slices.Equal(got.Actors, []string{ordersID}) || !slices.Equal(got.Scopes, []string{"read:orders"}) {
		t.Errorf("profile hears %+v", got)
	}
	if first := answer.Header.Get(harness.TransactionHeader); first == "" || got.Transaction != first {
		t.Errorf("the transaction is %q, and at orders it was %q", got.Transaction, first)
	}
	if actor := got.Header[envoy.HeaderActor]; !slices.Equal(actor, []string{ordersID}) {
		t.Errorf("the plain headers name %q as the actor", actor)
	}
	before := m.Members["profile"].Report(t).Heard
	if answer := m.Expect(t, 200, "GET", "/orders/grpc?to=profile", m.reads); strings.TrimSpace(answer.Body) != `"OK"` {
		t.Errorf("over gRPC: %s", answer)
	}
	report := m.Members["profile"].Report(t)
	if last := report.Last; report.Heard != before+1 || last.Path != "/grpc.health.v1.Health/Check" || last.Subject != m.robot.ID || !slices.Equal(last.Actors, []string{ordersID}) {
		t.Errorf("over gRPC profile hears %+v", last)
	}
	// profile's own way out leads nowhere: it is in nobody's allow_from.
	if answer := m.outbound(t, "profile", "orders", "GET", "/orders/1", assertionOf(t, got)); answer.Status != 404 {
		t.Errorf("profile calls orders: %s", answer)
	}
}

// Along a chain a service passes on what it has, or less, never more.
func meshNarrows(t *testing.T, m *mesh) {
	if got := m.hears(t, "GET", toProfile("GET", "/profile/1", "read:orders"), m.writes); !slices.Equal(got.Scopes, []string{"read:orders"}) {
		t.Errorf("narrowed to one scope profile hears %q", got.Scopes)
	}
	if got := m.hears(t, "GET", toProfile("GET", "/profile/1", ""), m.writes); len(got.Scopes) > 0 {
		t.Errorf("narrowed to none profile hears %q", got.Scopes)
	}
	// POST needs write:orders at profile's middleware.
	m.Expect(t, 200, "GET", toProfile("POST", "/profile/1"), m.writes)
	m.Expect(t, 403, "GET", toProfile("POST", "/profile/1", "read:orders"), m.writes)
	for _, wider := range []string{"write:orders", "read:orders write:orders", "admin", "read:orders read:orders"} {
		m.nobodyHears(t, "profile", func() { m.Expect(t, 403, "GET", toProfile("GET", "/profile/1", wider), m.reads) })
	}
}

// workload is an HTTP client with a certificate of a CA's; an empty id: none.
func workload(t *testing.T, caDir, id string) *http.Client {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} // a SPIFFE certificate names no host
	if id != "" {
		pair, err := identity(t, caDir, "peer", id).KeyPair()
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = append(config.Certificates, *pair)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// ask sends a request to any address; headers are names and values.
func ask(t *testing.T, client *http.Client, method, url string, headers ...string) (harness.Answer, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	return harness.Read(client, request)
}

// assertionOf is the assertion that a service got.
func assertionOf(t *testing.T, h harness.Heard) string {
	t.Helper()
	values := h.Header[envoy.AssertionHeader]
	if len(values) != 1 {
		t.Fatalf("%s got the assertions %q", h.Service, values)
	}
	return values[0]
}

// outbound calls through a service's sidecar as the service would.
func (m *mesh) outbound(t *testing.T, service, to, method, path string, assertion string, headers ...string) harness.Answer {
	t.Helper()
	headers = append(headers, "Host", to)
	if assertion != "" {
		headers = append(headers, "Gatehouse-Assertion", assertion)
	}
	answer, err := ask(t, http.DefaultClient, method, "http://"+m.Members[service].Outbound+path, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Straight to a sidecar, with everything that the edge would show but its key.
func meshAroundTheEdge(t *testing.T, m *mesh) {
	caDir := filepath.Join(m.Dir, "data", "ca")
	forOrders := assertionOf(t, m.hears(t, "GET", "/orders/1", m.reads))
	forProfile := assertionOf(t, m.hears(t, "GET", toProfile("GET", "/profile/1"), m.reads))
	headers := func(assertion string) []string {
		return []string{"Gatehouse-Assertion", assertion, "Authorization", "Bearer " + m.reads, "X-Forwarded-Client-Cert", "URI=" + edgeID}
	}
	for name, client := range map[string]*http.Client{
		"no certificate":              workload(t, caDir, ""),
		"the edge's, of a foreign CA": workload(t, t.TempDir(), edgeID),
		"orders', of a foreign CA":    workload(t, t.TempDir(), ordersID),
	} {
		for service, assertion := range map[string]string{"orders": forOrders, "profile": forProfile} {
			m.nobodyHears(t, service, func() {
				if answer, err := ask(t, client, "GET", "https://"+m.Address(service)+"/"+service+"/1", headers(assertion)...); err == nil {
					t.Errorf("%s at %s: %s", name, service, answer)
				}
			})
		}
	}
	for _, row := range []struct {
		name, id, service, assertion string
		want                         int
	}{
		// Who may call needs an assertion that was made for it, for this service.
		{"the edge", edgeID, "orders", forOrders, 200},
		{"the edge without an assertion", edgeID, "orders", "", 401},
		{"the edge with profile's assertion", edgeID, "orders", forProfile, 401},
		{"the edge with orders' at profile", edgeID, "profile", forOrders, 401},
		{"the edge with what orders was given", edgeID, "profile", forProfile, 403},
		{"orders", ordersID, "profile", forProfile, 200},
		{"orders with its own assertion", ordersID, "profile", forOrders, 401},
		{"orders without one", ordersID, "profile", "", 401},
		// Nobody else may call, whatever it shows.
		{"profile", profileID, "orders", forOrders, 403},
		{"orders itself", ordersID, "orders", forOrders, 403},
		{"an authorizer", envoy.AuthzIdentity(trustDomain), "orders", forOrders, 403},
		{"the control plane", envoy.ControlPlaneIdentity(trustDomain), "profile", forProfile, 403},
		{"a name that begins alike", ordersID + "2", "profile", forProfile, 403},
		{"another trust domain", envoy.EdgeIdentity("other.local"), "orders", forOrders, 403},
	} {
		client := workload(t, caDir, row.id)
		try := func() {
			all := headers(row.assertion)
			if row.assertion == "" {
				all = all[2:]
			}
			answer, err := ask(t, client, "GET", "https://"+m.Address(row.service)+"/"+row.service+"/1", all...)
			if err != nil || answer.Status != row.want {
				t.Errorf("%s at %s: %s %v, want %d", row.name, row.service, answer, err, row.want)
			}
			if row.want != 200 && (strings.Contains(answer.Body, "spiffe") || strings.Contains(strings.ToLower(answer.Body), "rbac")) {
				t.Errorf("%s at %s is told why: %s", row.name, row.service, answer)
			}
		}
		if row.want == 200 {
			try()
			continue
		}
		m.nobodyHears(t, row.service, try)
	}
	for _, reason := range []string{`it is for \"` + profileID, "has no gatehouse-assertion header"} {
		if !m.authorizersSaid(reason) {
			t.Errorf("no authorizer's log says %q", reason)
		}
	}
}

// authorizersSaid tells whether one of them wrote a text.
func (m *mesh) authorizersSaid(text string) bool {
	return strings.Contains(m.Process(harness.Authz).Log()+m.Process(harness.AuthzName(1)).Log(), text)
}

// Straight to the service, on its own machine: the middleware refuses what has
// no assertion for it, and there is no way to get one but through the gate.
func meshAroundTheSidecar(t *testing.T, m *mesh) {
	forOrders := assertionOf(t, m.hears(t, "GET", "/orders/1", m.reads))
	forProfile := assertionOf(t, m.hears(t, "GET", toProfile("GET", "/profile/1"), m.reads))
	for _, row := range []struct {
		name, service string
		want          int
		headers       []string
	}{
		{"nothing", "orders", 401, nil},
		{"plain headers", "orders", 401, []string{"X-Gatehouse-Subject", "usr_1", "X-Gatehouse-Scope", "write:orders"}},
		{"the token", "orders", 401, []string{"Authorization", "Bearer " + m.reads}},
		{"the token as an assertion", "orders", 401, []string{"Gatehouse-Assertion", m.reads}},
		{"profile's assertion", "orders", 401, []string{"Gatehouse-Assertion", forProfile}},
		{"orders' assertion", "profile", 401, []string{"Gatehouse-Assertion", forOrders}},
		{"two assertions", "orders", 401, []string{"Gatehouse-Assertion", forOrders, "Gatehouse-Assertion", forOrders}},
		{"an assertion without signature", "orders", 401, []string{"Gatehouse-Assertion", forOrders[:strings.LastIndex(forOrders, ".")+1]}},
	} {
		member := m.Members[row.service]
		before := member.Report(t).Heard
		answer, err := ask(t, http.DefaultClient, "GET", "http://"+member.Listen+"/"+row.service+"/1", row.headers...)
		if err != nil || answer.Status != row.want || member.Report(t).Heard != before {
			t.Errorf("%s at %s: %s %v, want %d", row.name, row.service, answer, err, row.want)
		}
	}
	if log := m.Process("service-profile").Log(); !strings.Contains(log, `it is for \"`+ordersID) {
		t.Errorf("the service's log does not say why:\n%s", log)
	}
	// Through the sidecar's way out, without or with what is no assertion of orders'.
	for name, assertion := range map[string]string{"none": "", "a token": m.reads, "the target's": forProfile, "half of one": forOrders[:len(forOrders)-2]} {
		m.nobodyHears(t, "profile", func() {
			if answer := m.outbound(t, "orders", "profile", "GET", "/profile/1", assertion); answer.Status != 401 {
				t.Errorf("out with %s: %s", name, answer)
			}
		})
	}
	if answer := m.outbound(t, "orders", "profile", "GET", "/profile/1", forOrders); answer.Status != 200 {
		t.Errorf("out with orders' assertion: %s", answer)
	}
}

// What clients send in the gate's name is gone before anybody reads it.
func meshForgedByClients(t *testing.T, m *mesh) {
	forOrders := assertionOf(t, m.hears(t, "GET", "/orders/1", m.writes))
	for _, name := range []string{"X-Gatehouse-Subject", "x-gatehouse-scope", "X-Gatehouse-New", "X-Gatehouse-Actor", "X-Forwarded-Client-Cert", "Gatehouse-Narrow-Scope"} {
		request := m.Request(t, "/orders/1", m.reads)
		request.Header.Add(name, "forged")
		var got harness.Heard
		if answer := m.Send(t, request); json.Unmarshal([]byte(answer.Body), &got) != nil || got.Subject != m.robot.ID {
			t.Fatalf("%s: %s", name, answer)
		}
		for header, values := range got.Header {
			if slices.Contains(values, "forged") {
				t.Errorf("%s arrives as %s", name, header)
			}
		}
	}
	// Not even a good assertion, with more scopes, is better than the token.
	request := m.Request(t, "/orders/1", m.reads)
	request.Header.Set("Gatehouse-Assertion", forOrders)
	var got harness.Heard
	if answer := m.Send(t, request); json.Unmarshal([]byte(answer.Body), &got) != nil || !slices.Equal(got.Scopes, []string{"read:orders"}) {
		t.Errorf("with an assertion of its own the client has %s", answer)
	}
	request.Header.Del("Authorization")
	m.nobodyHears(t, "orders", func() {
		if answer := m.Send(t, request); answer.Status != 401 {
			t.Errorf("with an assertion and no token: %s", answer)
		}
	})
}

// A service's word counts no more than a client's.
func meshForgedByServices(t *testing.T, m *mesh) {
	forOrders := assertionOf(t, m.hears(t, "GET", "/orders/1", m.reads))
	for _, name := range []string{"X-Gatehouse-Subject", "X-Gatehouse-Scope", "X-Gatehouse-Actor", "X-Gatehouse-New", "X-Forwarded-Client-Cert", "Authorization"} {
		answer := m.outbound(t, "orders", "profile", "GET", "/profile/1", forOrders, name, "forged")
		var got harness.Heard
		if json.Unmarshal([]byte(answer.Body), &got) != nil || got.Subject != m.robot.ID {
			t.Fatalf("%s: %s", name, answer)
		}
		for header, values := range got.Header {
			if slices.Contains(values, "forged") {
				t.Errorf("%s arrives as %s", name, header)
			}
		}
	}
	for _, to := range []string{"orders", "authz", "other", m.Address("profile")} {
		if answer := m.outbound(t, "orders", to, "GET", "/profile/1", forOrders); answer.Status != 404 {
			t.Errorf("orders calls %s: %s", to, answer)
		}
	}
}

// The edge's rule for writing demands no scope, by mistake. The sidecar refuses
// who may only read, and where its own routes let it pass, the service does.
func meshWrongRule(t *testing.T, m *mesh) {
	m.Expect(t, 403, "POST", "/orders", m.reads)
	right := m.Config()
	m.Edit(t, func(c harness.Config) {
		c.Route("orders-create")["scopes"] = nil
		c.Route("orders-loose")["scopes"] = nil
	})
	defer m.Write(t, right)
	for path, where := range map[string]string{"/orders": "the sidecar", "/orders/loose": "the service"} {
		before := m.Members["orders"].Report(t)
		harness.Eventually(t, 10*time.Second, func() error {
			if answer := m.Call(t, "POST", path, m.reads); answer.Status != 403 {
				return fmt.Errorf("POST %s: %s", path, answer)
			}
			if arrived := m.Members["orders"].Report(t).Arrived > before.Arrived; path == "/orders/loose" && !arrived {
				return fmt.Errorf("POST %s is still refused by the edge", path)
			}
			if path == "/orders" && !m.authorizersSaid(`"route":"write"`) {
				return fmt.Errorf("POST %s is still refused by the edge", path)
			}
			return nil
		})
		if after := m.Members["orders"].Report(t); after.Heard != before.Heard || path == "/orders" && after.Arrived != before.Arrived {
			t.Errorf("%s lets who may only read write at %s", where, path)
		}
		m.Expect(t, 200, "POST", path, m.writes)
	}
}
