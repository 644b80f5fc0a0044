package token

import (
	"encoding/json"
	"net/http"
)

// HTTP is next behind the verifier: it sees requests alone that carry a good
// assertion, and CallerFrom tells it whose they are. Others get 401, or 503
// where no keys can be had, with a problem (RFC 9457) that says no more.
func (v *ServiceVerifier) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.Header.Values(AssertionHeader)
		a, err := v.Verify(r.Context(), values)
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(withCaller(r.Context(), a, values[0])))
			return
		case ReasonOf(err) == ReasonKeysUnavailable:
			refuseHTTP(w, http.StatusServiceUnavailable, "The caller cannot be verified at the moment.")
		default:
			refuseHTTP(w, http.StatusUnauthorized, "The request does not come through the gate.")
		}
		v.refused(r.Context(), err)
	})
}

// RequireScope is next for callers with all the scopes; others get 403. It
// belongs behind HTTP.
func RequireScope(next http.Handler, scopes ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := CallerFrom(r.Context())
		if !ok {
			refuseHTTP(w, http.StatusUnauthorized, "The request does not come through the gate.")
			return
		}
		if scope, lacking := lacks(a, scopes); lacking {
			refuseHTTP(w, http.StatusForbidden, "The scope "+scope+" is required.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuseHTTP(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
	if err != nil {
		body = nil // strings and a number: cannot be
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
