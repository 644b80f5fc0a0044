package sample

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// gate says who calls, as an authorizer does.
type gate struct {
	key *tokentest.Key
	url string
}

func newGate(t *testing.T) *gate {
	g := &gate{key: tokentest.NewKey("EdDSA")}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(tokentest.JWKS(g.key)) }))
	t.Cleanup(keys.Close)
	g.url = keys.URL
	return g
}

func (g *gate) verifier(t *testing.T, service string) *token.ServiceVerifier {
	t.Helper()
	v, err := Config{TrustDomain: "gatehouse.local", KeysURL: g.url}.verifier(service)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// assertion is Ada's, for a service.
func (g *gate) assertion(service, scope string) string {
	now := time.Now()
	return g.key.Sign(map[string]any{"alg": "EdDSA", "typ": token.TypeAssertion, "kid": g.key.ID()}, map[string]any{
		"iss": "spiffe://gatehouse.local/authz", "aud": "spiffe://gatehouse.local/service/" + service, "txn": "req-1",
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "sub": "usr_ada", "client_id": "web", "scope": scope,
		"req_wl": "spiffe://gatehouse.local/gateway/edge",
		"tctx": map[string]any{
			"subject_type": "user", "iss": "https://issuer.example", "jti": "jti-1", "sid": "ses_1", "grant_id": "grt_1",
			"kid": "key-1", "iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix(),
		},
	})
}

func call(h http.Handler, method, path, body string, headers map[string]string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request)
	return w
}

// orders is the orders service, whose sidecar leads to profile.
func (g *gate) orders(t *testing.T, sidecar http.HandlerFunc) http.Handler {
	t.Helper()
	server := httptest.NewServer(sidecar)
	t.Cleanup(server.Close)
	outbound, err := token.NewOutbound(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return Orders(g.verifier(t, "orders"), outbound)
}

func TestOrders(t *testing.T) {
	g := newGate(t)
	service := g.orders(t, http.NotFound)
	writer := map[string]string{token.AssertionHeader: g.assertion("orders", "read:orders write:orders")}
	reader := map[string]string{token.AssertionHeader: g.assertion("orders", "read:orders")}
	nobody := map[string]string{"x-gatehouse-subject": "usr_ada", "x-gatehouse-scope": "read:orders write:orders"}
	others := map[string]string{token.AssertionHeader: g.assertion("profile", "read:orders write:orders")}
	for _, step := range []struct {
		method, path, body string
		headers            map[string]string
		status             int
		says               string
	}{
		{"GET", "/orders", "", reader, 200, `"id":1`},
		{"POST", "/orders", `{"item":"a chair"}`, writer, 201, `{"id":2,"item":"a chair","owner":"usr_ada"}`},
		{"POST", "/orders", `{}`, writer, 400, ""},
		{"GET", "/orders/2", "", reader, 200, "a chair"},
		{"PUT", "/orders/2", `{"item":"a table"}`, writer, 200, "a table"},
		{"PUT", "/orders/7", `{"item":"a table"}`, writer, 404, ""},
		// Whatever the edge let through.
		{"POST", "/orders", `{"item":"a chair"}`, reader, 403, "write:orders"},
		{"PUT", "/orders/2", `{"item":"a chair"}`, reader, 403, "write:orders"},
		{"DELETE", "/orders/2", "", reader, 403, "write:orders"},
		{"GET", "/orders/2", "", reader, 200, "a table"},
		{"DELETE", "/orders/2", "", writer, 204, ""},
		{"DELETE", "/orders/2", "", writer, 404, ""},
		{"GET", "/orders/x", "", reader, 404, ""},
		{"GET", "/orders", "", nobody, 401, ""},
		{"GET", "/orders", "", others, 401, ""},
	} {
		w := call(service, step.method, step.path, step.body, step.headers)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", step.method, step.path, w.Code, w.Body, step.status, step.says)
		}
	}
}

// Orders asks profile with the assertion that it got itself, for no more than
// profile demands.
func TestOrdersAsksProfile(t *testing.T) {
	g := newGate(t)
	own := g.assertion("orders", "read:orders read:profile")
	status := http.StatusOK
	service := g.orders(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "profile" || r.URL.Path != "/my-name" || r.Header.Get(token.AssertionHeader) != own || r.Header.Get("gatehouse-narrow-scope") != "read:profile" {
			t.Errorf("the sidecar got %s %s %v", r.Host, r.URL, r.Header)
		}
		answer(w, status, caller{Name: "usr_ada", Type: "user"})
	})
	for _, row := range []struct {
		profile, status int
		says            string
	}{
		{200, 200, `{"buyer":{"name":"usr_ada"`},
		{403, 403, "refuses"},
		{503, 502, "does not answer"},
	} {
		status = row.profile
		w := call(service, "GET", "/orders/buyer", "", map[string]string{token.AssertionHeader: own})
		if w.Code != row.status || !strings.Contains(w.Body.String(), row.says) {
			t.Errorf("profile answers %d: %d %s", row.profile, w.Code, w.Body)
		}
	}
}

func TestProfile(t *testing.T) {
	g := newGate(t)
	service := Profile(g.verifier(t, "profile"))
	ada := map[string]string{token.AssertionHeader: g.assertion("profile", "read:profile"), "X-Gatehouse-Subject": "usr_ada", "Cookie": "secret"}
	for _, step := range []struct {
		path    string
		headers map[string]string
		status  int
		says    string
	}{
		{"/profile", ada, 200, `"x-gatehouse-subject":"usr_ada"`},
		{"/profile", ada, 200, `"authorization_seen":false`},
		{"/my-name", ada, 200, `{"name":"usr_ada","type":"user","via":[],"authorization_seen":false}`},
		{"/my-name", map[string]string{token.AssertionHeader: g.assertion("profile", "read:orders")}, 403, "read:profile"},
		{"/my-name", map[string]string{token.AssertionHeader: g.assertion("orders", "read:profile")}, 401, ""},
		{"/profile", map[string]string{"X-Gatehouse-Subject": "usr_ada"}, 401, ""},
		{"/healthz", map[string]string{"Authorization": "Bearer x"}, 200, `"authorization_seen":true`},
	} {
		w := call(service, "GET", step.path, "", step.headers)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.says) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("GET %s: %d %s, want %d with %q", step.path, w.Code, w.Body, step.status, step.says)
		}
	}
}
