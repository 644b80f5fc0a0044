package authz

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

var testSigning = Config{Skew: 30 * time.Second, TrustMaxAge: 30 * time.Minute, Assertions: Assertions{Rotate: 24 * time.Hour}}

// runSigning starts the life of keys within a synctest bubble.
func runSigning(t *testing.T, trust Trust) (*signing, func()) {
	t.Helper()
	return runSigningAs(t, trust, testSigning)
}

func runSigningAs(t *testing.T, trust Trust, config Config) (*signing, func()) {
	t.Helper()
	s := newSigning(trust, "here", config, slog.New(slog.DiscardHandler), time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestKeySignsOnceHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		trust.hold = false
		s, stop := runSigning(t, trust)
		defer stop()
		if len(trust.keys()) != 1 {
			t.Fatalf("%d keys are published", len(trust.keys()))
		}
		pass(time.Hour)
		if s.active.Load() != nil || s.lack() == nil {
			t.Fatal("a key signs that not everybody holds")
		}
		trust.change(func() { trust.hold = true })
		synctest.Wait()
		first := s.active.Load()
		if first == nil || s.lack() != nil {
			t.Fatal("no key signs")
		}

		trust.change(func() { trust.hold = false }) // the next one is not held
		pass(25 * time.Hour)
		if s.active.Load() != first || len(trust.keys()) != 2 {
			t.Fatalf("the first key no longer signs, or the next is not published: %d", len(trust.keys()))
		}
		trust.change(func() { trust.hold = true })
		synctest.Wait()
		second := s.active.Load()
		if second == first {
			t.Fatal("the next key does not sign though it is held")
		}
		if _, verifies := s.keys().Lookup(first.ID()); !verifies || len(trust.keys()) != 2 {
			t.Error("a retired key does not verify what it signed")
		}
		pass(s.keep + 2*lookAgain)
		if _, verifies := s.keys().Lookup(first.ID()); verifies || len(trust.keys()) != 1 {
			t.Error("a retired key verifies for ever")
		}
	})
}

// TestQuickestRotation: however often keys change, they stay few enough to be
// published, and each verifies for as long as what it signed is good.
func TestQuickestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		config := testSigning
		config.Assertions.Rotate, config.Skew = minRotate, time.Minute
		s, stop := runSigningAs(t, trust, config)
		defer stop()
		most, last, signed := 0, s.active.Load(), map[string]time.Time{}
		for range 1200 {
			pass(time.Second)
			if now := s.active.Load(); now != last {
				signed[last.ID()], last = time.Now(), now
			}
			most = max(most, len(trust.keys()))
			for id, retired := range signed {
				if _, verifies := s.keys().Lookup(id); !verifies && time.Since(retired) < s.keep {
					t.Fatalf("a key is gone %s after it last signed", time.Since(retired))
				}
			}
		}
		if len(signed) < 20 || most > 9 {
			t.Errorf("%d rotations in 20 minutes, with up to %d keys at once", len(signed), most)
		}
	})
}

func TestKeysOutliveALostTrustServiceAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		s, stop := runSigning(t, trust)
		active := s.active.Load()
		trust.mu.Lock()
		trust.down, trust.own = true, nil // it lost them
		trust.mu.Unlock()
		pass(time.Minute)
		if s.active.Load() != active {
			t.Error("the key no longer signs")
		}
		trust.mu.Lock()
		trust.down = false
		trust.mu.Unlock()
		pass(2 * lookAgain)
		if len(trust.keys()) != 1 {
			t.Error("the key was not published again")
		}
		before := trust.publications()
		pass(keyLife)
		if trust.publications()-before < 3 {
			t.Errorf("published %d times in %s", trust.publications()-before, keyLife)
		}
		stop()
		if left := time.Until(trust.keys()[0].GetExpiresAt().AsTime()); left != s.keep {
			t.Errorf("after the end the key is kept for %s, not %s", left, s.keep)
		}
	})
}

// TestKeysThatWouldEndTooSoon: one that starts says where, and until when what a
// predecessor there signed is good; and one that is taken for gone says that it is
// there, at once.
func TestKeysThatWouldEndTooSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		s, stop := runSigning(t, trust)
		defer stop()
		if r := trust.last; r.GetPlace() != "here" || time.Until(r.GetPredecessorsEnd().AsTime()) != s.keep {
			t.Errorf("the first publication is from %q, its predecessors' keys end in %s", r.GetPlace(), time.Until(r.GetPredecessorsEnd().AsTime()))
		}
		pass(time.Minute)
		before := trust.publications()
		trust.change(func() {
			k := proto.CloneOf(trust.own[0])
			k.ExpiresAt = timestamppb.New(time.Now().Add(s.keep))
			trust.own = []*workloadv1.AssertionKey{k}
		})
		synctest.Wait()
		if left := time.Until(trust.keys()[0].GetExpiresAt().AsTime()); trust.publications() != before+1 || left != keyLife {
			t.Errorf("%d publications later the key ends in %s", trust.publications()-before, left)
		}
		pass(time.Minute)
		if trust.publications() != before+1 {
			t.Error("it goes on publishing")
		}
	})
}

// TestTaken: a state is said to be in use when it is, even while nothing can be
// published.
func TestTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		s, stop := runSigning(t, trust)
		defer stop()
		trust.change(func() { trust.down, trust.version, trust.denied = true, "v2", []string{testOrders} })
		synctest.Wait()
		trust.mu.Lock()
		defer trust.mu.Unlock()
		if trust.taken != "v2" || !s.isDenied(testOrders) {
			t.Errorf("%q is in use, denied: %v", trust.taken, s.isDenied(testOrders))
		}
	})
}

func TestDroppedKeysVerifyNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		s, stop := runSigning(t, trust)
		defer stop()
		old := s.active.Load()
		s.drop()
		synctest.Wait()
		if now := s.active.Load(); now == nil || now == old {
			t.Error("no other key signs")
		}
		if _, verifies := s.keys().Lookup(old.ID()); verifies || len(trust.keys()) != 1 {
			t.Error("the dropped key still verifies")
		}
	})
}

// TestNoKeyNoAssertion: a route that needs an assertion is 503 while no key may
// sign, and no other route is.
func TestNoKeyNoAssertion(t *testing.T) {
	w := newWorld(t)
	trust := newTestTrust()
	trust.hold, w.trust = false, trust
	w.start()
	w.eventually("waiting for the key alone", func() bool { return len(w.server.Missing()) == 1 })
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
	w.expect(checkOf(w.rule(toOrders), w.person()), 503, ReasonAssertionKey)
	trust.change(func() { trust.hold = true })
	w.waitReady()
	w.expect(checkOf(w.rule(toOrders), w.person()), 200, ReasonAllowed)
}

func TestAssertionKeysAreServed(t *testing.T) {
	w := startWorld(t)
	answer, err := http.Get(w.readyz + "/assertion-keys")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.ParseKeySet(text, []token.Algorithm{token.EdDSA})
	if err != nil || set.Len() != 1 || set.IDs()[0] != w.server.signing.active.Load().ID() {
		t.Errorf("%s: %v", text, err)
	}
	var raw struct{ Keys []map[string]any }
	if err := json.Unmarshal(text, &raw); err != nil || raw.Keys[0]["d"] != nil {
		t.Error("a private key is served")
	}
}

func TestRecentIsBounded(t *testing.T) {
	r, now := newRecent[int, string](100), time.Unix(1, 0)
	for i := range 1000 {
		r.put(i, "x", 10, now)
		if len(r.young)+len(r.old) > 10 {
			t.Fatalf("%d entries of 10 bytes in 100", len(r.young)+len(r.old))
		}
	}
	if _, found := r.get(999); !found {
		t.Error("the newest is gone")
	}
	if _, found := r.get(1); found {
		t.Error("the oldest is still there")
	}
	r.put(1, "huge", 1000, now)
	if _, found := r.get(1); found {
		t.Error("it holds more than it may")
	}
	r.put(2, "x", 10, now.Add(2*generation))
	r.put(3, "x", 10, now.Add(4*generation))
	if _, found := r.get(999); found {
		t.Error("what nobody used for minutes is still there")
	}
}

// TestNobodyPassesBeforeTrustIsHeard: until it is known who was revoked, an
// Envoy that was could ask, so nobody may.
func TestNobodyPassesBeforeTrustIsHeard(t *testing.T) {
	w := newWorld(t)
	trust := newTestTrust()
	trust.silent, trust.denied, w.trust = true, []string{testNode}, trust
	w.start()
	w.eventually("waiting for trust alone", func() bool { return len(w.server.Missing()) == 2 })
	w.expect(checkOf(w.rule(), w.person()), 503, ReasonTrustMissing)
	trust.change(func() { trust.silent = false })
	w.eventually("heard", func() bool { return w.server.signing.heard() == nil })
	w.expect(checkOf(w.rule(), w.person()), 403, ReasonWorkloadDenied)
	trust.change(func() { trust.denied = nil })
	w.eventually("allowed", func() bool { return !w.server.signing.isDenied(testNode) })
	w.waitReady()
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
}
