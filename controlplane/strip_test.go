package controlplane

import (
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/envoy"
)

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

// Whose address it is a client does not say, neither to a service nor to a policy,
// where no proxy is trusted.
func testForwardedFor(t *testing.T, r *rig, orders, site *service) {
	for path, service := range map[string]*service{"/orders": orders, "/own": orders, "/public/x": site, "/oauth/token": site} {
		for _, client := range []*http.Client{r.http1, r.client} {
			r.ask(t, client, http.MethodGet, path, "X-Forwarded-For", "192.0.2.66, 192.0.2.67", "Authorization", bearer)
			got := service.last()
			if got == nil || len(got.Header["X-Forwarded-For"]) != 1 || strings.ContainsAny(got.Header.Get("X-Forwarded-For"), ", ") || strings.Contains(got.Header.Get("X-Forwarded-For"), "192.0.2.6") {
				t.Errorf("%s: the service is told of %v", path, got)
			}
		}
	}
	if check := r.authz.last(); check == nil || strings.Contains(check.String(), "192.0.2.6") {
		t.Errorf("the check saw %v", check)
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
