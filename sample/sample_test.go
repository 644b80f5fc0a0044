package sample

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func call(h http.Handler, method, path, body string, headers map[string]string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request)
	return w
}

func TestOrders(t *testing.T) {
	service := Orders()
	ada := map[string]string{"x-gatehouse-subject": "usr_ada"}
	for _, step := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/orders", "", 200, `"id":1`},
		{"POST", "/orders", `{"item":"a chair"}`, 201, `{"id":2,"item":"a chair","owner":"usr_ada"}`},
		{"POST", "/orders", `{}`, 400, ""},
		{"GET", "/orders/2", "", 200, "a chair"},
		{"DELETE", "/orders/2", "", 204, ""},
		{"DELETE", "/orders/2", "", 404, ""},
		{"GET", "/orders/x", "", 404, ""},
	} {
		w := call(service, step.method, step.path, step.body, ada)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", step.method, step.path, w.Code, w.Body, step.status, step.says)
		}
	}
}

func TestProfileShowsWhatTheGateSaid(t *testing.T) {
	w := call(Profile(), "GET", "/profile", "", map[string]string{"X-Gatehouse-Subject": "usr_ada", "Cookie": "secret"})
	if got := w.Body.String(); !strings.Contains(got, `"x-gatehouse-subject":"usr_ada"`) || !strings.Contains(got, `"authorization_seen":false`) || strings.Contains(got, "secret") {
		t.Error(got)
	}
	if w := call(Profile(), "GET", "/profile", "", map[string]string{"Authorization": "Bearer x"}); !strings.Contains(w.Body.String(), `"authorization_seen":true`) {
		t.Error(w.Body)
	}
}
