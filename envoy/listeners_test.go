package envoy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Envoy calls itself ready where a listener's port was taken; nobody can reach
// it there.
func TestReadyNeedsTheListeners(t *testing.T) {
	const (
		outbound = `{"name": "outbound", "active_state": {"version_info": "1"}}`
		nameless = `{"error_state": {"details": "cannot bind"}}`
	)
	for name, row := range map[string]struct {
		listeners []string
		want      string // in the error; empty: ready
	}{
		"none":              {nil, ""},
		"there":             {[]string{outbound}, ""},
		"never opened":      {[]string{outbound, `{"name": "inbound", "error_state": {"details": "cannot bind '127.0.0.1:9201'"}}`}, `"inbound": cannot bind '127.0.0.1:9201'`},
		"change refused":    {[]string{`{"name": "inbound", "active_state": {"version_info": "1"}, "error_state": {"details": "bad"}}`}, ""},
		"not yet":           {[]string{`{"name": "inbound", "warming_state": {"version_info": "1"}, "error_state": {"details": "bad"}}`}, ""},
		"of another update": {[]string{outbound, nameless}, ""},
		"no JSON":           {[]string{"{"}, "reading what Envoy tells"},
	} {
		t.Run(name, func(t *testing.T) {
			admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/ready":
				case "/config_dump":
					fmt.Fprintf(w, `{"configs": [%s]}`, strings.Join(row.listeners, ","))
				default:
					http.NotFound(w, r)
				}
			}))
			defer admin.Close()
			p := &Process{admin: adminClient(admin.Listener.Addr().String())}
			err := p.Ready(t.Context())
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
