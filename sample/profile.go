package sample

import (
	"net/http"
	"strings"
)

// Profile is the profile service: GET /profile answers with what the gate said
// of the caller, and with whether credentials came through, which they must
// not; GET /my-name with the caller's id alone; GET /healthz is there for
// everybody.
func Profile() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /profile", profile)
	mux.HandleFunc("GET /healthz", profile)
	mux.HandleFunc("GET /my-name", myName)
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

// myName answers with who the caller is, by what the gate says: a person's or a
// client's id.
func myName(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"name": r.Header.Get("x-gatehouse-subject"), "type": r.Header.Get("x-gatehouse-subject-type"),
		"authorization_seen": r.Header.Get("Authorization") != "",
	})
}
