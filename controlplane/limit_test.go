package controlplane

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// callsAs makes the stub authorizer say that its caller is somebody, and gives
// it a header to choose by.
func (r *rig) callsAs(client, subject, token string) {
	r.authz.answers(func(response *authv3.CheckResponse) {
		response.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			"client_id": structpb.NewStringValue(client), "subject": structpb.NewStringValue(subject),
			"token_id": structpb.NewStringValue(token), "issuer": structpb.NewStringValue("https://issuer.example"),
		}}
	})
}

const limitsGateway = `
issuer: {url: %[1]s}
audience: a
limits:
  - {by: address, requests: 40, per: 1h}
  - {by: client, requests: 6, per: 1h}
services: {site: {url: %[1]s}}
routes:
  - {id: token, path: /token, service: site, limits: [{by: token, requests: 2, per: 1h}]}
  - {id: subject, path: /subject, service: site, limits: [{by: subject, requests: 3, per: 1h}]}
  - {id: route, path: /route, service: site, limits: [{by: route, requests: 4, per: 1h}, {by: address, requests: 100, per: 1h}]}
  - {id: plain, path: /plain, service: site}
  - {id: public, path: /public, service: site, public: true, limits: [{by: address, requests: 2, per: 1h}]}
  - {id: open, path: /open, service: site, public: true}
`

// used sends requests until one is refused, at most 60, and is how many were not.
func (r *rig) used(t *testing.T, from, path string, headers ...string) (allowed int, refused *http.Response, body string) {
	t.Helper()
	client := r.from(t, from)
	for allowed < 60 {
		response, body := r.ask(t, client, "GET", path, headers...)
		if response.StatusCode == http.StatusTooManyRequests {
			return allowed, response, body
		}
		allowed++
	}
	return allowed, nil, ""
}

func TestLimits(t *testing.T) {
	site := startService(t, "site")
	r := newRig(t, fmt.Sprintf(limitsGateway, site.URL))
	admitted := []string{"Authorization", bearer}
	for _, row := range []struct {
		name                   string
		client, subject, token string
		from, path             string
		want                   int
		policy                 string
	}{
		{"a token", "c1", "s1", "t1", "127.0.1.1", "/token", 2, `"token-3600s";q=2;w=3600`},
		{"another token of the client, until that is used up", "c1", "s1", "t2", "127.0.1.1", "/token", 2, `"token-3600s";q=2;w=3600`},
		{"the client, wherever it is", "c1", "s1", "t9", "127.0.1.2", "/plain", 0, `"gateway-client-3600s";q=6;w=3600`},
		{"another client is unaffected", "c2", "s2", "t2b", "127.0.1.2", "/subject", 3, `"subject-3600s";q=3;w=3600`},
		{"the same subject by another client", "c3", "s2", "t3", "127.0.1.2", "/subject", 0, `"subject-3600s";q=3;w=3600`},
		{"another client on the route", "c4", "s4", "t4", "127.0.1.3", "/route", 4, `"route-3600s";q=4;w=3600`},
		{"all callers of the route", "c5", "s5", "t5", "127.0.1.4", "/route", 0, `"route-3600s";q=4;w=3600`},
		{"an address on a public route", "", "", "", "127.0.1.5", "/public", 2, `"address-3600s";q=2;w=3600`},
		{"another address there", "", "", "", "127.0.1.6", "/public", 2, `"address-3600s";q=2;w=3600`},
		{"an address on all public routes", "", "", "", "127.0.1.5", "/open", 37, `"gateway-address-3600s";q=40;w=3600`},
		{"an address at the issuer", "", "", "", "127.0.1.7", "/oauth/token", 40, `"gateway-address-3600s";q=40;w=3600`},
		{"an address on no route", "", "", "", "127.0.1.7", "/unknown", 0, `"gateway-address-3600s";q=40;w=3600`},
	} {
		headers := []string(nil)
		if row.client != "" {
			r.callsAs(row.client, row.subject, row.token)
			headers = admitted
		}
		allowed, refused, body := r.used(t, row.from, row.path, headers...)
		if allowed != row.want || refused == nil {
			t.Errorf("%s: %d allowed, want %d", row.name, allowed, row.want)
			continue
		}
		h := refused.Header
		if !strings.Contains(h.Get("RateLimit-Policy"), row.policy) || h.Get("X-RateLimit-Remaining") != "0" || h.Get("Retry-After") == "" || len(h.Values("X-RateLimit-Limit")) != 1 {
			t.Errorf("%s: %v", row.name, h)
		}
		if h.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"status":429`) {
			t.Errorf("%s: %s", row.name, body)
		}
	}
	t.Run("gRPC", func(t *testing.T) { testLimitGRPC(t, r) })
	t.Run("headers", func(t *testing.T) { testLimitHeaders(t, r) })
	t.Run("parallel", func(t *testing.T) { testLimitParallel(t, r) })
	t.Run("forged", func(t *testing.T) { testLimitForged(t, r) })
	t.Run("an edit", func(t *testing.T) { testLimitEdit(t, r) })
}

// An edit of a route fills no bucket of the gateway's.
func testLimitEdit(t *testing.T, r *rig) {
	g := r.gateway
	g.Routes = append(slices.Clone(g.Routes), Route{ID: "new", Path: "/new", Service: "site", Public: true, Timeout: defaultTimeout})
	r.apply(t, g)
	if response, _ := r.ask(t, r.from(t, "127.0.5.1"), "GET", "/new"); response.StatusCode != http.StatusOK {
		t.Fatalf("the new route: %d", response.StatusCode)
	}
	r.callsAs("c1", "s1", "t9")
	if allowed, _, _ := r.used(t, "127.0.5.2", "/plain", "Authorization", bearer); allowed != 0 {
		t.Errorf("after the edit, a client that had used up its limit sent %d more", allowed)
	}
}

// A gRPC client gets a status of its own, and a sentence.
func testLimitGRPC(t *testing.T, r *rig) {
	response, _ := r.ask(t, r.from(t, "127.0.1.5"), "POST", "/public", "Content-Type", "application/grpc", "Te", "trailers")
	h := response.Header
	if response.StatusCode != http.StatusOK || h.Get("Grpc-Status") != "8" || h.Get("Grpc-Message") != "Too many requests: see Retry-After." || h.Get("Retry-After") == "" {
		t.Errorf("%d %v", response.StatusCode, h)
	}
}

func testLimitHeaders(t *testing.T, r *rig) {
	r.callsAs("h1", "h1", "h1")
	response, _ := r.ask(t, r.from(t, "127.0.2.1"), "GET", "/token", "Authorization", bearer)
	for name, want := range map[string]string{
		"RateLimit-Policy":      `"token-3600s";q=2;w=3600, "gateway-client-3600s";q=6;w=3600, "gateway-address-3600s";q=40;w=3600`,
		"RateLimit":             `"token-3600s";r=1;t=1800, "gateway-client-3600s";r=5;t=600, "gateway-address-3600s";r=39;t=90`,
		"X-RateLimit-Limit":     "2",
		"X-RateLimit-Remaining": "1",
		"X-RateLimit-Reset":     "1800",
		"Retry-After":           "",
	} {
		if got := strings.Join(response.Header.Values(name), " // "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func testLimitParallel(t *testing.T, r *rig) {
	r.callsAs("p1", "p1", "p1")
	var allowed atomic.Int64
	var group sync.WaitGroup
	for i := range 32 {
		client := r.from(t, fmt.Sprintf("127.0.3.%d", i+1))
		group.Go(func() {
			response, _ := r.ask(t, client, "GET", "/plain", "Authorization", bearer)
			if response.StatusCode == 200 {
				allowed.Add(1)
			}
		})
	}
	group.Wait()
	if allowed.Load() != 6 {
		t.Errorf("%d of 32 at once were allowed, want 6", allowed.Load())
	}
}

// Requests that the check refuses use up nobody's limit and make nobody
// forgotten.
func testLimitForged(t *testing.T, r *rig) {
	r.callsAs("f1", "f1", "f1")
	for i := range 120 {
		r.ask(t, r.from(t, fmt.Sprintf("127.0.4.%d", i/30+1)), "GET", "/token", "Authorization", fmt.Sprintf("Bearer forged-%d", i))
	}
	if allowed, _, _ := r.used(t, "127.0.4.9", "/token", "Authorization", bearer); allowed != 2 {
		t.Errorf("%d allowed, want 2", allowed)
	}
}

func TestLimitViolations(t *testing.T) {
	on := func(text string) string {
		return "audience: a\nroutes: [{id: r, path: /r, service: a, limits: [" + text + "]}]"
	}
	for _, row := range []struct{ line, keys string }{
		{"limits: [{by: client, requests: 1}]", ""},
		{"limits: [{by: weather, requests: 1}]", "limits[0].by"},
		{"limits: [{by: route, requests: 1}]", "limits[0].by"},
		{"limits: [{by: client}]", "limits[0].requests"},
		{"limits: [{by: client, requests: 1, per: 100ms}]", "limits[0].per"},
		{"limits: [{by: client, requests: 1, per: 25h}]", "limits[0].per"},
		{"limits: [{by: client, requests: 1, burst: 2000000000, per: 24h}]", "limits[0].burst"},
		{"limits: [{by: client, requests: 1}, {by: client, requests: 2}]", "limits[1]"},
		{"limits: [{by: client, requests: 1}, {by: client, requests: 2, shared: true}]", ""},
		{on("{by: route, requests: 1}"), ""},
		{on("{by: token, requests: 1}"), ""},
		{strings.Replace(on("{by: token, requests: 1}"), "service: a", "service: a, public: true", 1), "routes[0].limits[0].by"},
		{strings.Replace(on("{by: address, requests: 1}"), "service: a", "service: a, public: true", 1), ""},
	} {
		g := gatewayWith(t, row.line)
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q: %v", row.line, got, row.keys, g.Validate())
		}
	}
	in := testInputs(t, gatewayWith(t, "limits: [{by: client, requests: 1, shared: true}]"))
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), "without a rate-limit service") {
		t.Errorf("a shared limit without a service: %v", err)
	}
}
