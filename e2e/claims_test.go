package e2e

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token"
)

// claimsSeen are the x-gatehouse-* headers that arrived, each with its values
// joined by " // ".
func claimsSeen(seen harness.Seen) map[string]string {
	found := map[string]string{}
	for name, values := range seen.Header {
		if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-gatehouse") || strings.Contains(name, "assertion") {
			found[name] = strings.Join(values, " // ")
		}
	}
	return found
}

// Services learn who is calling, and nothing of the credential. One without a
// sidecar may verify it, too, with the authorizer's keys.
func TestClaims(t *testing.T) {
	var keys string
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		keys = "http://" + c.Text("authz.telemetry") + "/assertion-keys"
	}})
	robot, program := s.Robot(t, "robot", "read:orders", "read:profile")
	shop := s.AddShop(t, "shop", "read:orders", "write:orders", "read:profile")
	person := s.Login(t, shop, s.AddUser(t, "ada", "customer", "approver"), "read:orders", "read:profile").Access
	subject := verify(t, s, person).Subject()

	ofProgram := map[string]string{
		"x-gatehouse-subject": robot.ID, "x-gatehouse-subject-type": "client", "x-gatehouse-client-id": robot.ID,
		"x-gatehouse-scope": "read:orders read:profile", "x-gatehouse-issuer": s.URL(""),
	}
	ofPerson := map[string]string{
		"x-gatehouse-subject": subject, "x-gatehouse-subject-type": "user", "x-gatehouse-client-id": "shop",
		"x-gatehouse-scope": "read:orders read:profile", "x-gatehouse-roles": "customer,approver", "x-gatehouse-issuer": s.URL(""),
	}
	for _, row := range []struct {
		name, path, token string
		claims            map[string]string
		forwarded         bool
		service           string
	}{
		{"a program", "/orders", program, ofProgram, false, "orders"},
		{"a person", "/orders", person, ofPerson, false, "orders"},
		{"a route that forwards credentials", "/forwarding", person, ofPerson, true, "profile"},
		{"a public route", "/open", person, map[string]string{}, false, ""},
	} {
		seen := s.Expect(t, 200, "GET", row.path, row.token).Seen()
		got := claimsSeen(seen)
		if row.service != "" {
			signed := verifyAssertion(t, keys, row.service, seen.Header[token.AssertionHeader])
			if signed.Subject() != row.claims["x-gatehouse-subject"] || strings.Join(signed.Scopes(), " ") != row.claims["x-gatehouse-scope"] {
				t.Errorf("%s: the assertion names %q with %q", row.name, signed.Subject(), signed.Scopes())
			}
			delete(got, token.AssertionHeader)
		}
		if normalRoles(got); !maps.Equal(got, normalRoles(maps.Clone(row.claims))) {
			t.Errorf("%s: the service saw %v, want %v", row.name, got, row.claims)
		}
		if forwarded := slices.Equal(seen.Header["authorization"], []string{"Bearer " + row.token}); forwarded != row.forwarded || !row.forwarded && seen.Has("authorization") {
			t.Errorf("%s: Authorization arrived as %q", row.name, seen.Header["authorization"])
		}
	}
}

// verifyAssertion does what a service does with the header's values.
func verifyAssertion(t *testing.T, keys, service string, values []string) *token.Assertion {
	t.Helper()
	verifier, err := token.NewServiceVerifier(token.ServiceConfig{Service: "spiffe://gatehouse.local/service/" + service, KeysURL: keys})
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := verifier.Verify(t.Context(), values)
	if err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	return assertion
}

// normalRoles sorts the roles: their order means nothing.
func normalRoles(claims map[string]string) map[string]string {
	if roles, ok := claims["x-gatehouse-roles"]; ok {
		sorted := slices.Sorted(slices.Values(strings.Split(roles, ",")))
		claims["x-gatehouse-roles"] = strings.Join(sorted, ",")
	}
	return claims
}

// What a client says of itself never arrives, however it is spelled.
func TestClaimsCannotBeSent(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders", "read:profile")
	spoofs := map[string][]string{
		"as it is":                {"x-gatehouse-subject: usr_evil"},
		"capitals":                {"X-GATEHOUSE-SUBJECT: usr_evil"},
		"mixed":                   {"X-GateHouse-Subject: usr_evil"},
		"twice":                   {"x-gatehouse-subject: usr_evil", "X-Gatehouse-Subject: usr_evil"},
		"empty, then not":         {"x-gatehouse-subject:", "x-gatehouse-subject: usr_evil"},
		"a claim the token lacks": {"x-gatehouse-roles: usr_evil"},
		"a name of nobody's":      {"x-gatehouse-tenant: usr_evil"},
		"the bare prefix":         {"x-gatehouse-: usr_evil"},
		"the assertion":           {"gatehouse-assertion: usr_evil"},
		"the assertion, capitals": {"Gatehouse-Assertion: usr_evil"},
		"underscores":             {"x_gatehouse_subject: usr_evil"},
		"one underscore":          {"x-gatehouse_subject: usr_evil"},
		"assertion, underscore":   {"gatehouse_assertion: usr_evil"},
		"a space before the :":    {"x-gatehouse-subject : usr_evil"},
		"a tab in front":          {"\tx-gatehouse-subject: usr_evil"},
		"a folded line":           {"x-innocent: a", " x-gatehouse-subject: usr_evil"},
		"a bare line feed":        {"x-innocent: a\nx-gatehouse-subject: usr_evil"},
		"a bare carriage return":  {"x-innocent: a\rx-gatehouse-subject: usr_evil"},
		"named by Connection":     {"Connection: x-gatehouse-subject", "x-gatehouse-subject: usr_evil"},
		"Envoy's own headers":     {"x-envoy-original-path: usr_evil", "x-envoy-decorator-operation: usr_evil"},
	}
	for _, path := range []string{"/orders", "/forwarding", "/open"} {
		for name, lines := range spoofs {
			before := s.Orders.Requests.Load() + s.Profile.Requests.Load()
			answer := s.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+access+"\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
			if s.Orders.Requests.Load()+s.Profile.Requests.Load() == before {
				if answer.Status != 400 {
					t.Errorf("%s, %s: %s", path, name, answer)
				}
				continue
			}
			seen := answer.Seen()
			for header, values := range seen.Header {
				// In the value of another header it means nothing.
				if header != "x-innocent" && strings.Contains(strings.Join(values, " "), "usr_evil") {
					t.Errorf("%s, %s: the service saw %s: %q", path, name, header, values)
				}
			}
			want := ""
			if path != "/open" {
				want = "robot"
			}
			if got := claimsSeen(seen)["x-gatehouse-subject"]; got != want {
				t.Errorf("%s, %s: the subject is %q, want %q", path, name, got, want)
			}
		}
	}
}

// Trailers come after the check, and are headers to many a service.
func TestClaimsCannotBeSentAsTrailers(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, writer := s.Robot(t, "writer", "write:orders")
	send := func(path string, http1 bool) harness.Seen {
		request, err := http.NewRequest("POST", s.URL(path), io.NopCloser(strings.NewReader("a body")))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+writer)
		request.Trailer = http.Header{"X-Gatehouse-Subject": {"usr_evil"}, "Gatehouse-Assertion": {"usr_evil"}, "X-Gatehouse-Roles": {"usr_evil"},
			"Gatehouse-Narrow-Scope": {"usr_evil"}, "X-Original-Url": {"usr_evil"}, "X-Forwarded-Client-Cert": {"usr_evil"}, "Dpop": {"usr_evil"}, "X-Innocent": {"usr_evil"}}
		client := s.HTTP()
		if http1 {
			client.Transport = &http.Transport{TLSClientConfig: s.TLS(t), DisableKeepAlives: true}
		}
		answer, err := harness.Read(client, request)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 200 || (answer.Proto == "HTTP/1.1") != http1 {
			t.Fatalf("%s: %s by %s", path, answer, answer.Proto)
		}
		return answer.Seen()
	}
	for _, path := range []string{"/orders", "/open", "/h2/echo"} {
		for _, http1 := range []bool{true, false} {
			seen := send(path, http1)
			for name, values := range seen.Trailer {
				// x-innocent shows that trailers do arrive, by HTTP/2.
				if len(values) > 0 && name != "x-innocent" {
					t.Errorf("%s (HTTP/1.1: %t): the trailer %s arrived as %q", path, http1, name, values)
				}
			}
			if seen.Body != "a body" {
				t.Errorf("%s: the body arrived as %q", path, seen.Body)
			}
			for name, values := range claimsSeen(seen) {
				if strings.Contains(values, "usr_evil") {
					t.Errorf("%s: %s arrived as %q", path, name, values)
				}
			}
		}
	}
}
