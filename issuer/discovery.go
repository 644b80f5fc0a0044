package issuer

import (
	"fmt"
	"net/http"
	"time"
)

// discovery serves the provider's metadata.
func (s *server) discovery(w http.ResponseWriter, _ *http.Request) error {
	cacheable(w, time.Minute)
	writeJSON(w, http.StatusOK, s.metadata)
	return nil
}

// jwks serves the public keys. Caches may keep them no longer than a key is
// published before it signs.
func (s *server) jwks(w http.ResponseWriter, _ *http.Request) error {
	cacheable(w, s.keys.MaxAge())
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Write(s.keys.JWKS())
	return nil
}

func cacheable(w http.ResponseWriter, age time.Duration) {
	w.Header().Del("Pragma")
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(age.Seconds())))
}
