package controlplane

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestCORSViolations(t *testing.T) {
	for text, want := range map[string]string{
		`allow_origins: ["*"], allow_credentials: true`: "cookies",
		`allow_origins: ["*", https://a.example]`:       "pointless",
		`allow_origins: [https://a.example/]`:           "no origin",
		`allow_origins: [https://a.example/x]`:          "no origin",
		`allow_origins: [https://A.example]`:            "no origin",
		`allow_origins: [http://a.example]`:             "no origin",
		`allow_origins: ["null"]`:                       "no origin",
		`allow_origins: [a.example]`:                    "no origin",
		`allow_origins: ["https://*"]`:                  "no origin",
		`allow_origins: ["https://*.com"]`:              "no origin",
		`allow_origins: ["https://*example.com"]`:       "no origin",
		`allow_origins: ["https://a.*.example.com"]`:    "no origin",
		`allow_origins: ["https://*.*.example.com"]`:    "no origin",
		`allow_origins: ["https://a.example:0"]`:        "no origin",
		`allow_origins: ["https://user@a.example"]`:     "no origin",
		`allow_origins: [""]`:                           "no origin",
		`allow_methods: [get]`:                          "no method",
		`allow_methods: ["*"]`:                          "no method",
		`allow_headers: ["*"]`:                          "no header",
		`allow_headers: [Authorization]`:                "no header",
		`expose_headers: ["a,b"]`:                       "no header",
		`max_age: 25h`:                                  "out of bounds",
		`max_age: 1500ms`:                               "out of bounds",
		`max_age: -1s`:                                  "out of bounds",
		`allow_origins: [https://a.example, "https://*.b.example:1", "http://localhost:3000"]`: "",
		`allow_origins: ["*"]`: "",
		``:                     "",
	} {
		g := readGateway(t, "cors: {"+text+"}\naudience: a\nservices: {a: {url: http://127.0.0.1:1}}\nroutes: [{id: a, path: /a, service: a, cors: {"+text+"}}]")
		err := g.Validate().Err()
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		for _, key := range []string{"cors.", "routes[0].cors."} {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v, want %q of %s", text, err, want, key)
			}
		}
	}
}

// What browsers ask before and see afterwards, at a real Envoy.
func TestCORS(t *testing.T) {
	service := startService(t, "site")
	r := newRig(t, strings.ReplaceAll(string(readFile(t, "testdata/cors.in.yaml")), "http://127.0.0.1:9101", service.URL))
	const page, shop = "https://app.example.com", "https://shop.example.com"
	ask := func(method, path string, headers ...string) (int, http.Header) {
		t.Helper()
		response, _ := r.ask(t, r.client, method, path, headers...)
		return response.StatusCode, response.Header
	}
	for name, row := range map[string]struct {
		path, origin, method string
		allowed              string // the origin; empty: none
		methods, headers     string
	}{
		"a route's own":          {"/orders/1", shop, "POST", shop, "GET,POST", "authorization,x-shop"},
		"another origin there":   {"/orders/1", page, "POST", "", "", ""},
		"another method there":   {"/orders/1", shop, "DELETE", "", "", ""},
		"the gateway's":          {"/x", page, "PUT", page, "GET,HEAD,POST", "authorization,content-type,dpop"},
		"a name below":           {"/x", "https://a.b.partner.example:8443", "GET", "https://a.b.partner.example:8443", "GET,HEAD,POST", "authorization,content-type,dpop"},
		"the name itself":        {"/x", "https://partner.example:8443", "GET", "", "", ""},
		"a name that ends alike": {"/x", "https://evilpartner.example:8443", "GET", "", "", ""},
		"a name that goes on":    {"/x", "https://a.partner.example:8443.evil", "GET", "", "", ""},
		"another port":           {"/x", "https://a.partner.example", "GET", "", "", ""},
		"another scheme":         {"/x", "http://app.example.com", "GET", "", "", ""},
		"null":                   {"/x", "null", "GET", "", "", ""},
		"a route that hides":     {"/hidden", page, "POST", "", "", ""},
		"any origin":             {"/open", "https://whoever.example", "GET", "*", "GET", "authorization,content-type,dpop"},
	} {
		status, h := ask("OPTIONS", row.path, "Origin", row.origin, "Access-Control-Request-Method", row.method, "Access-Control-Request-Headers", "authorization")
		got := h.Get("Access-Control-Allow-Origin")
		if row.allowed == "*" {
			row.allowed = row.origin
		}
		if got != row.allowed || row.allowed != "" && (status != 200 || h.Get("Access-Control-Allow-Methods") != row.methods || h.Get("Access-Control-Allow-Headers") != row.headers) {
			t.Errorf("%s: %d %v", name, status, h)
		}
		if service.last() != nil || r.authz.last() != nil {
			t.Errorf("%s: a preflight goes on to the authorizer or the service", name)
		}
	}
	// Whoever refuses, the page may read it.
	ask("GET", "/few", "Origin", page)
	service.last()
	for path, want := range map[string]int{"/few": 429, "/inside": 403} {
		status, h := ask("GET", path, "Origin", page)
		if status != want || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "retry-after") {
			t.Errorf("%s: %d %v", path, status, h)
		}
	}
	// The request itself needs its token, and the page may read that it does.
	for name, row := range map[string]struct {
		path    string
		headers []string
		status  int
		allowed string
	}{
		"with a token":      {"/orders/1", []string{"Origin", shop, "Authorization", bearer}, 200, shop},
		"without a token":   {"/orders/1", []string{"Origin", shop}, 401, shop},
		"of another origin": {"/orders/1", []string{"Origin", page, "Authorization", bearer}, 200, ""},
		"of no page":        {"/orders/1", []string{"Authorization", bearer}, 200, ""},
		"no preflight":      {"/hidden", []string{"Origin", page}, 401, ""},
	} {
		method := "GET"
		if row.path == "/hidden" {
			method = "POST"
		}
		status, h := ask(method, row.path, row.headers...)
		if status != row.status || h.Get("Access-Control-Allow-Origin") != row.allowed {
			t.Errorf("%s: %d %v", name, status, h)
		}
		if row.allowed != "" && (h.Get("Access-Control-Expose-Headers") != "x-total" || h.Get("Access-Control-Allow-Credentials") != "true") {
			t.Errorf("%s: %v", name, h)
		}
		if status == 200 && row.path == "/orders/1" && !slices.Contains(h.Values("Vary"), "Origin") {
			t.Errorf("%s: caches are not told that it varies: %v", name, h)
		}
		if status != 200 && service.last() != nil {
			t.Errorf("%s: the service is reached", name)
		}
		service.last()
	}
}
