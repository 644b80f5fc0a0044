package token

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/token/tokentest"
)

// jwksServer stands in for the network, so that time can be a test's own.
type jwksServer struct {
	mu     sync.Mutex
	answer func(*http.Request) (*http.Response, error)
	asked  []time.Time
}

func (s *jwksServer) RoundTrip(request *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	answer := s.answer
	s.mu.Unlock()
	return answer(request)
}

func (s *jwksServer) serve(answer func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *jwksServer) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time{}, s.asked...)
}

// gaps are the pauses between fetches.
func (s *jwksServer) gaps() (gaps []time.Duration) {
	times := s.times()
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

func withKeys(keys ...*tokentest.Key) func(*http.Request) (*http.Response, error) {
	return withBody(http.StatusOK, string(tokentest.JWKS(keys...)), "")
}

func withBody(status int, body, cacheControl string) func(*http.Request) (*http.Response, error) {
	return func(request *http.Request) (*http.Response, error) {
		header := http.Header{}
		if cacheControl != "" {
			header.Set("Cache-Control", cacheControl)
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: request}, nil
	}
}

func broken(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }

// newTestRemote runs in the bubble that calls it, and stops with the test.
func newTestRemote(t *testing.T, s *jwksServer, change func(*RemoteConfig)) *Remote {
	t.Helper()
	config := RemoteConfig{URL: "https://issuer.example/keys", Algorithms: Algorithms()}
	if change != nil {
		change(&config)
	}
	r, err := NewRemote(config)
	if err != nil {
		t.Fatal(err)
	}
	r.client.Transport = s
	return r
}

func start(t *testing.T, r *Remote) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func wantKeys(t *testing.T, r *Remote, keys ...*tokentest.Key) {
	t.Helper()
	ks := r.Keys()
	if ks.Len() != len(keys) {
		t.Errorf("%d keys, want %d", ks.Len(), len(keys))
	}
	for _, key := range keys {
		if _, ok := ks.Lookup(key.ID()); !ok {
			t.Errorf("the key %s is not there", key.ID())
		}
	}
}

// pass lets a bubble's own time go by; nobody waits for it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// near tells whether a pause is what it should be, less the spread.
func near(got, want time.Duration) bool { return got <= want && got >= want*4/5 }
