package e2e

import (
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// What Envoy matched is what was checked and what is forwarded: no spelling of
// a path gets to a guarded route's service by way of a public one.
func TestScopesPerRoutePaths(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	for _, path := range []string{
		"/open/../orders", "/open/%2e%2e/orders", "/open/%2E%2E/orders", "/open/..;/orders", "/open/..;x=y/orders",
		"/open/%2e%2e;/orders", "/open/..%3b/orders", "/open/.;/orders", `/open/\..;\orders`, `/open\..\orders`, "/open%2f..%2forders",
		"/open/..%2forders", "/open/%252e%252e/orders", "//orders", "/open//../orders", "/./orders", "/orders/.", "/orders/..;/orders",
		"/open/..%5corders", "/orders;x=y", "/orders%00", "/open/../%6frders", "/orders#/../open", "/orders?/../open",
	} {
		before := s.Orders.Requests.Load()
		answer := s.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if s.Orders.Requests.Load() != before {
			t.Errorf("%s arrived at the orders service without a token: %s", path, answer)
		}
		switch answer.Status {
		case 400, 401, 404:
		case 200:
			// Forwarded to the public service: nothing in it may mean another
			// path to whom it arrives at.
			if seen := answer.Seen().Path; !strings.HasPrefix(seen, "/open") || strings.Contains(strings.ToLower(strings.ReplaceAll(seen, "%2e", ".")), "..") && !strings.Contains(seen, "%25") {
				t.Errorf("%s arrived at the public service as %q", path, seen)
			}
		default:
			// Envoy answers a backslash and its like by a redirect to what it
			// understood; the client comes again, and is checked.
			if answer.Status/100 != 3 {
				t.Errorf("%s: %s", path, answer)
			}
		}
	}
}

// The issuer's cookies, and the other ways to authenticate, stay at the gate.
func TestClaimsWithoutCredentials(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	for _, path := range []string{"/orders", "/open"} {
		request, err := http.NewRequest("GET", s.URL(path), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+access)
		request.Header.Set("DPoP", "a proof")
		request.Header.Set("Proxy-Authorization", "Basic c2VjcmV0")
		request.Header.Add("Cookie", "mine=1; __Host-gatehouse-session=secret; theirs=2")
		request.Header.Add("Cookie", "gatehouse-session=secret")
		seen := s.Send(t, request).Seen()
		for _, name := range []string{"authorization", "dpop", "proxy-authorization"} {
			if seen.Has(name) {
				t.Errorf("%s: %s arrived", path, name)
			}
		}
		if got := strings.Join(seen.Header["cookie"], "; "); got != "mine=1; theirs=2" {
			t.Errorf("%s: the cookies arrived as %q", path, got)
		}
	}
}
