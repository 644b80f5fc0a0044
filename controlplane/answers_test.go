package controlplane

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

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
