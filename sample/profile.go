package sample

import (
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/token"
)

// Profile is the profile service: GET /profile answers with what the gate said
// of the caller, and with whether credentials came through, which they must
// not; GET /my-name with the caller's id alone, to who may read profiles; GET
// /healthz is there for everybody.
func Profile(verifier *token.ServiceVerifier) http.Handler {
	guarded := http.NewServeMux()
	guarded.HandleFunc("GET /profile", profile)
	guarded.HandleFunc("GET /my-name", myName)
	mux := http.NewServeMux()
	mux.Handle("/", verifier.HTTP(token.RequireScope(guarded, "read:profile")))
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

// caller is who somebody is, and through which services the request came, the
// nearest first.
type caller struct {
	Name              string   `json:"name"`
	Type              string   `json:"type"`
	Via               []string `json:"via"`
	AuthorizationSeen bool     `json:"authorization_seen"`
}

// myName answers with who the caller is, a person or a client, by the signed
// assertion.
func myName(w http.ResponseWriter, r *http.Request) {
	a, _ := token.CallerFrom(r.Context()) // there: the verifier let it through
	answer(w, http.StatusOK, caller{
		Name: a.Subject(), Type: a.SubjectType(), Via: append([]string{}, a.Actors()...),
		AuthorizationSeen: r.Header.Get("Authorization") != "",
	})
}
