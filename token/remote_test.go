package token

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/token/tokentest"
)

// TestRemoteRetriesTheFirstFetch backs off, but never for longer than
// MinInterval: nothing can be verified meanwhile.
func TestRemoteRetriesTheFirstFetch(t *testing.T) {
	key := tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: broken}
		r := newTestRemote(t, s, nil)
		if r.Keys() != nil || r.LastError() == nil || !r.LastSuccess().IsZero() {
			t.Error("before the first fetch there are keys, or no error")
		}
		defer start(t, r)()
		pass(30 * time.Second)
		wants := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}
		gaps := s.gaps()
		if len(gaps) < len(wants) {
			t.Fatalf("%d retries in 30s", len(gaps))
		}
		for i, want := range wants {
			if !near(gaps[i], want) {
				t.Errorf("retry %d came after %s, want up to a fifth less than %s", i+1, gaps[i], want)
			}
		}
		if r.Keys() != nil || !strings.Contains(r.LastError().Error(), "no route to host") {
			t.Errorf("after failures: keys %v, error %v", r.Keys(), r.LastError())
		}
		s.serve(withKeys(key))
		pass(5 * time.Second)
		wantKeys(t, r, key)
		if r.LastError() != nil || r.LastSuccess().IsZero() {
			t.Errorf("after a success: %v, %v", r.LastError(), r.LastSuccess())
		}
	})
}

// TestRemoteKeepsTheLastGoodSet through failures of every kind, up to its age.
func TestRemoteKeepsTheLastGoodSet(t *testing.T) {
	key := tokentest.NewKey("ES256")
	good := string(tokentest.JWKS(key))
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"no connection":  broken,
		"500":            withBody(500, good, ""),
		"404":            withBody(404, good, ""),
		"204":            withBody(204, good, ""),
		"301":            withBody(301, good, ""),
		"a page":         withBody(200, "<html></html>", ""),
		"nothing":        withBody(200, "", ""),
		"half an answer": withBody(200, good[:len(good)/2], ""),
		"too much":       withBody(200, good+strings.Repeat(" ", MaxKeySetSize), ""),
		"a kid twice":    withBody(200, string(tokentest.JWKS(key, key)), ""),
		"a body that stops": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader(good), failing{}))}, nil
		},
		"an answer that never comes": func(request *http.Request) (*http.Response, error) {
			<-request.Context().Done()
			return nil, request.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &jwksServer{answer: withKeys(key)}
				r := newTestRemote(t, s, func(c *RemoteConfig) { c.MaxAge = time.Hour })
				defer start(t, r)()
				loaded := r.LastSuccess()
				s.serve(answer)
				pass(time.Until(loaded.Add(time.Hour)))
				wantKeys(t, r, key)
				if r.LastError() == nil || !r.LastSuccess().Equal(loaded) {
					t.Errorf("the failure is not told: %v, %v", r.LastError(), r.LastSuccess())
				}
				pass(time.Nanosecond)
				if r.Keys() != nil {
					t.Error("the keys are taken beyond their age")
				}
				s.serve(withKeys(key))
				pass(5*time.Minute + fetchTimeout)
				wantKeys(t, r, key)
			})
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestRemoteBelievesAWithdrawal: an issuer that publishes no usable key has
// none, and the last good set must not outlive that.
func TestRemoteBelievesAWithdrawal(t *testing.T) {
	key := tokentest.NewKey("ES256")
	enc := tokentest.With(key.JWK(), map[string]any{"use": "enc"})
	for name, body := range map[string]string{"no keys": `{"keys":[]}`, "no usable key": string(tokentest.RawJWKS(enc))} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &jwksServer{answer: withKeys(key)}
				r := newTestRemote(t, s, nil)
				defer start(t, r)()
				wantKeys(t, r, key)
				s.serve(withBody(200, body, ""))
				pass(5 * time.Minute)
				if r.Keys() != nil || !errors.Is(r.LastError(), ErrNoKeys) {
					t.Errorf("keys %v, error %v; want none and ErrNoKeys", r.Keys().IDs(), r.LastError())
				}
			})
		})
	}
}

// TestRemoteRefresh: any number of wishes lead to one fetch, no sooner than
// MinInterval after the last, and none is lost.
func TestRemoteRefresh(t *testing.T) {
	a, b := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: withKeys(a)}
		r := newTestRemote(t, s, nil)
		defer start(t, r)()
		s.serve(withKeys(a, b))
		for range 1000 {
			r.Refresh()
		}
		synctest.Wait()
		if n := len(s.times()); n != 1 {
			t.Fatalf("%d fetches at once, want the first alone", n)
		}
		pass(5 * time.Second)
		wantKeys(t, r, a, b)
		for range 100 {
			r.Refresh()
			pass(time.Second)
		}
		if n := len(s.times()); n < 20 || n > 22 {
			t.Errorf("%d fetches in 105s of constant wishes, want one every 5s", n)
		}
		for _, gap := range s.gaps() {
			if gap < 5*time.Second {
				t.Errorf("two fetches within %s", gap)
			}
		}
	})
}

// TestRemoteRenew: all keys go at once, a fetch follows without a pause, and one
// that was under way before brings nothing back.
func TestRemoteRenew(t *testing.T) {
	a, b := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		s := &jwksServer{answer: withKeys(a)}
		r := newTestRemote(t, s, nil)
		defer start(t, r)()
		synctest.Wait()
		wantKeys(t, r, a)
		s.serve(withKeys(b))
		r.Renew()
		if r.Keys() != nil {
			t.Error("there are keys without a fetch")
		}
		synctest.Wait()
		wantKeys(t, r, b)
		if gaps := s.gaps(); len(gaps) != 1 || gaps[0] != 0 {
			t.Errorf("fetches apart by %s, want one at once", gaps)
		}
		s.serve(func(request *http.Request) (*http.Response, error) { <-answer; return withKeys(a)(request) })
		pass(5 * time.Minute)
		s.serve(broken)
		r.Renew()
		close(answer)
		synctest.Wait()
		if r.Keys() != nil {
			t.Error("a fetch from before brought keys back")
		}
		s.serve(withKeys(b))
		pass(time.Minute)
		wantKeys(t, r, b)
	})
}

// TestRemoteRefreshLater: a wish long after the last fetch is met at once.
func TestRemoteRefreshLater(t *testing.T) {
	key := tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: withKeys(key)}
		r := newTestRemote(t, s, nil)
		defer start(t, r)()
		pass(time.Minute)
		r.Refresh()
		synctest.Wait()
		if gaps := s.gaps(); len(gaps) != 1 || gaps[0] != time.Minute {
			t.Errorf("fetches apart by %s, want one after a minute", gaps)
		}
	})
}

// TestRemoteFollowsMaxAge: the issuer says how soon it may have new keys.
func TestRemoteFollowsMaxAge(t *testing.T) {
	key := tokentest.NewKey("ES256")
	for header, want := range map[string]time.Duration{
		"":                                5 * time.Minute,
		"max-age=20":                      20 * time.Second,
		"public, max-age=20":              20 * time.Second,
		"MAX-AGE=20 , must-revalidate":    20 * time.Second,
		"max-age=1":                       time.Second,
		"max-age=86400":                   5 * time.Minute,
		"max-age=0":                       5 * time.Minute,
		"max-age=-1":                      5 * time.Minute,
		"max-age=99999999999999999999999": 5 * time.Minute,
		"max-age=x, s-maxage=3":           5 * time.Minute,
		"no-store":                        5 * time.Minute,
	} {
		t.Run(header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &jwksServer{answer: withBody(200, string(tokentest.JWKS(key)), header)}
				defer start(t, newTestRemote(t, s, nil))()
				pass(30 * time.Minute)
				gaps := s.gaps()
				if len(gaps) == 0 || !near(gaps[0], want) || !near(gaps[len(gaps)-1], want) {
					t.Errorf("fetches apart by %s, want up to a fifth less than %s", gaps[0], want)
				}
			})
		})
	}
}

// TestRemoteDrop: a purged key goes at once, and nothing that is published
// afterwards brings it back.
func TestRemoteDrop(t *testing.T) {
	a, b := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: withKeys(a, b)}
		r := newTestRemote(t, s, nil)
		stop := start(t, r)
		wantKeys(t, r, a, b)
		r.Drop(a.ID())
		wantKeys(t, r, b)
		pass(5 * time.Minute)
		wantKeys(t, r, b)
		s.serve(withKeys(a.WithID("renamed"), b))
		pass(5 * time.Minute)
		wantKeys(t, r, b)
		r.Drop("of no key")
		wantKeys(t, r, b)
		stop()
		// Dropped before it was ever seen.
		early := newTestRemote(t, s, nil)
		early.Drop(b.ID())
		s.serve(withKeys(a, b))
		defer start(t, early)()
		wantKeys(t, early, a)
	})
}

// TestRemoteLogsChanges, not every fetch.
func TestRemoteLogsChanges(t *testing.T) {
	key := tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &jwksServer{answer: broken}
		r := newTestRemote(t, s, func(c *RemoteConfig) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		stop := start(t, r)
		pass(time.Minute)
		s.serve(withKeys(key))
		pass(time.Hour)
		stop()
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings of the one failure", n)
		}
		if n := strings.Count(log.String(), "level=INFO"); n != 1 || !strings.Contains(log.String(), key.ID()) {
			t.Errorf("%d notes of the one success:\n%s", n, &log)
		}
	})
}

// TestRemoteStartsQuietly where the issuer is there a little later: parts start in
// any order. Afterwards a failure is told at once.
func TestRemoteStartsQuietly(t *testing.T) {
	key := tokentest.NewKey("ES256")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &jwksServer{answer: broken}
		r := newTestRemote(t, s, func(c *RemoteConfig) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer start(t, r)()
		pass(settling - time.Second)
		s.serve(withKeys(key))
		pass(settling)
		if strings.Contains(log.String(), "level=WARN") {
			t.Errorf("warned at the start:\n%s", &log)
		}
		s.serve(broken)
		r.Refresh()
		pass(time.Minute)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings of keys that cannot be had any more:\n%s", n, &log)
		}
	})
}

// TestRemoteEnds in the middle of a fetch.
func TestRemoteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: func(request *http.Request) (*http.Response, error) {
			<-request.Context().Done()
			return nil, request.Context().Err()
		}}
		r := newTestRemote(t, s, nil)
		began := time.Now()
		start(t, r)()
		if time.Since(began) != 0 {
			t.Errorf("it took %s", time.Since(began))
		}
	})
}

// TestRemoteUnderConcurrency is for the race detector.
func TestRemoteUnderConcurrency(t *testing.T) {
	a, b := tokentest.NewKey("ES256"), tokentest.NewKey("EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &jwksServer{answer: withBody(200, string(tokentest.JWKS(a, b)), "max-age=1")}
		r := newTestRemote(t, s, func(c *RemoteConfig) { c.MinInterval = time.Millisecond })
		defer start(t, r)()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 200 {
					r.Keys().Lookup(a.ID())
					r.Refresh()
					r.Drop(b.ID())
					_, _ = r.LastError(), r.LastSuccess()
					<-time.After(time.Millisecond)
				}
			})
		}
		group.Wait()
		wantKeys(t, r, a)
	})
}
