package serve

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Missing says what a part still lacks before it can do its work, one phrase
// each; empty: it is ready.
type Missing func() []string

// Telemetry serves a part's /metrics (Prometheus), /livez, and /readyz, which
// answers 503 with one line for each thing that is missing; a part that is ready
// all the same says in notes what it does without. It belongs on a listener of
// its own, on loopback.
func Telemetry(metrics prometheus.Gatherer, missing Missing, notes ...Missing) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if lacks := missing(); len(lacks) > 0 {
			http.Error(w, strings.Join(lacks, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		for _, note := range notes {
			for _, line := range note() {
				fmt.Fprintln(w, line)
			}
		}
	})
	return mux
}

// ValidateLoopback reports an address under key that is not a loopback
// "ip:port".
func ValidateLoopback(key, address string) (vs conf.Violations) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		vs.Add(key, address, "is not a loopback address", "write 127.0.0.1:PORT: what is served there is for this machine alone")
	}
	return vs
}
