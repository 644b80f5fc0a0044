package sample

import (
	"net/http"
	"strings"
)

// Profile is the profile service: GET /profile answers with what the gate said
// of the caller, and with whether credentials came through, which they must
// not; GET /healthz is there for everybody.
func Profile() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /profile", profile)
	mux.HandleFunc("GET /healthz", profile)
	return mux
}

func profile(w http.ResponseWriter, r *http.Request) {
	seen := map[string]any{"authorization_seen": r.Header.Get("Authorization") != ""}
	for name, values := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "x-gatehouse-") || name == "gatehouse-assertion" {
			seen[name] = strings.Join(values, ", ")
		}
	}
	answer(w, http.StatusOK, seen)
}
