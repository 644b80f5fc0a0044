package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// Seen is a request as it arrived at a service.
type Seen struct {
	// Service is the name of the service it arrived at.
	Service string
	Method  string
	Path    string
	// Header and Trailer have lower-case names, and every value that came.
	Header  map[string][]string
	Trailer map[string][]string
	Body    string
}

// Has tells whether anything came whose name, in any spelling, is or begins
// with the given one.
func (s Seen) Has(prefix string) bool {
	for _, names := range []map[string][]string{s.Header, s.Trailer} {
		for name := range names {
			if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), prefix) {
				return true
			}
		}
	}
	return false
}

// Service is a service behind the gate, in the test process. It answers every
// request with a JSON Seen of it.
type Service struct {
	Name string
	URL  string
	// Requests counts all that arrived.
	Requests atomic.Int64

	mu   sync.Mutex
	last Seen
}

// Last is the request that came last.
func (s *Service) Last() Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// StartService serves until the test ends, HTTP/1.1 and HTTP/2 without TLS.
func StartService(t testing.TB, name string) *Service {
	t.Helper()
	s := &Service{Name: name}
	s.URL = "http://" + s.serve(t, s)
	return s
}

// StartGRPC serves a gRPC health service, and everything else as StartService
// does, over HTTP/2 without TLS.
func StartGRPC(t testing.TB, name string) *Service {
	t.Helper()
	s := &Service{Name: name}
	server := grpc.NewServer(grpc.UnaryInterceptor(s.recordGRPC))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	s.URL = "h2c://" + s.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			server.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(w, r)
	}))
	return s
}

func (s *Service) serve(t testing.TB, handler http.Handler) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	seen := Seen{Service: s.Name, Method: r.Method, Path: r.URL.RequestURI(), Header: lower(r.Header), Trailer: lower(r.Trailer), Body: string(body)}
	s.record(seen)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Service", s.Name)
	if err := json.NewEncoder(w).Encode(seen); err != nil {
		panic(fmt.Sprintf("encoding what was seen: %v", err))
	}
}

func (s *Service) recordGRPC(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.record(Seen{Service: s.Name, Method: http.MethodPost, Path: info.FullMethod, Header: lower(http.Header(md))})
	return next(ctx, req)
}

func (s *Service) record(seen Seen) {
	s.Requests.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = seen
}

func lower(headers http.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range headers {
		key := strings.ToLower(name)
		out[key] = append(out[key], values...)
	}
	return out
}
