package controlplane

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// service is a back end that answers with its name and keeps what it was sent.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	seen *http.Request
}

func startService(t *testing.T, name string) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.keep(r)
		w.Header().Set("Server", "secret/1.0")
		w.Header().Set("X-Powered-By", "secret")
		fmt.Fprint(w, name)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) keep(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = r
}

// byName is the service's URL with a name that must be resolved.
func byName(s *service) string { return strings.Replace(s.URL, "127.0.0.1", "localhost", 1) }

// last is the last request that arrived; nil: none since the last call.
func (s *service) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.seen
	s.seen = nil
	return r
}
