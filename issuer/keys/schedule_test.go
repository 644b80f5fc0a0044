package keys

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// run runs a Ring inside a bubble until the test ends.
func run(t *testing.T, r *Ring) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// rotate publishes the one next key of a Ring.
func rotate(t *testing.T, r *Ring) (store.Key, error) {
	t.Helper()
	next, err := r.Rotate(t.Context(), ES256)
	if err != nil || len(next) != 1 {
		return store.Key{}, errors.Join(err, errors.New("rotating made no single key"))
	}
	return next[0], nil
}

// pass lets time go by in a bubble.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// A key is published for the lead, signs, retires and is gone, each at its
// time, and a token always verifies against the set that was cached a lead ago.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		first := signsWith(t, r)
		pass(testConfig.RotateEvery - testConfig.PublishLead - time.Second)
		if kids := published(t, r); len(kids) != 1 {
			t.Fatalf("published too early: %v", kids)
		}
		pass(2 * time.Second)
		cached := published(t, r)
		if len(cached) != 2 || signsWith(t, r) != first {
			t.Fatalf("when the lead begins: %v, signing with %s", cached, signsWith(t, r))
		}
		pass(testConfig.PublishLead - 3*time.Second)
		if signsWith(t, r) != first {
			t.Fatal("the next key signs before its lead is over")
		}
		pass(4 * time.Second)
		second := signsWith(t, r)
		if second == first || !slices.Contains(cached, second) || len(published(t, r)) != 2 {
			t.Fatalf("after the lead: signing with %s, cached were %v", second, cached)
		}
		pass(testConfig.Retention - 5*time.Second)
		if !slices.Contains(published(t, r), first) {
			t.Fatal("the retired key is gone while its tokens live")
		}
		pass(10 * time.Second)
		if kids := published(t, r); !slices.Equal(kids, []string{second}) {
			t.Fatalf("after the retention: %v", kids)
		}
		pass(testConfig.RotateEvery + time.Minute)
		if third := signsWith(t, r); third == second {
			t.Fatal("it rotated only once")
		}
	})
}

func TestRotateRespectsTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		first := signsWith(t, r)
		next, err := rotate(t, r)
		if err != nil || next.State != store.KeyNext {
			t.Fatalf("%+v, %v", next, err)
		}
		if again, err := rotate(t, r); err != nil || again.ID != next.ID {
			t.Errorf("rotating twice makes another key: %v, %v", again.ID, err)
		}
		if !slices.Contains(published(t, r), next.ID) || signsWith(t, r) != first {
			t.Error("not published at once, or signing at once")
		}
		pass(testConfig.PublishLead - time.Second)
		if signsWith(t, r) != first {
			t.Error("it signs before the lead is over")
		}
		pass(2 * time.Second)
		if signsWith(t, r) != next.ID {
			t.Error("it does not sign after the lead")
		}
	})
}

// A ring that was not running when a key was due catches up when it loads.
func TestLoadCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, kek := openStore(t), newKEK()
		stopped := loaded(t, testConfig, db, kek)
		pass(time.Minute)
		next, err := rotate(t, stopped)
		if err != nil {
			t.Fatal(err)
		}
		pass(30 * 24 * time.Hour)
		r := loaded(t, testConfig, db, kek)
		if signsWith(t, r) != next.ID || !slices.Equal(states(t, r), []store.KeyState{store.KeyRetired, store.KeyActive}) {
			t.Errorf("states %v", states(t, r))
		}
	})
}

func TestPurge(t *testing.T) {
	db := openStore(t)
	r := loaded(t, testConfig, db, newKEK())
	first := signsWith(t, r)
	next, err := rotate(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Purge(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := signsWith(t, r); got != next.ID || !slices.Equal(published(t, r), []string{next.ID}) {
		t.Errorf("after purging the active key: signing with %s of %v", got, published(t, r))
	}
	if err := r.Purge(t.Context(), next.ID); err != nil {
		t.Fatal(err)
	}
	if got := signsWith(t, r); got == next.ID || got == first {
		t.Errorf("after purging both: signing with %s", got)
	}
	if err := r.Purge(t.Context(), first); err != nil {
		t.Errorf("purging again: %v", err)
	}
	if err := r.Purge(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("purging an unknown key: %v", err)
	}
	entries, err := db.Log(t.Context(), 0, 10)
	if err != nil || len(entries) != 2 || entries[0].ID != first || entries[1].ID != next.ID || entries[0].Kind != store.KindKey {
		t.Errorf("the log has %v, %v", entries, err)
	}
	if got := states(t, r); !slices.Equal(got, []store.KeyState{store.KeyPurged, store.KeyPurged, store.KeyActive}) {
		t.Errorf("states %v", got)
	}
}

func TestPurgeOfOthersKeepsTheActiveOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		retired := signsWith(t, r)
		if _, err := r.Rotate(t.Context(), ES256); err != nil {
			t.Fatal(err)
		}
		pass(testConfig.PublishLead + time.Second)
		active := signsWith(t, r)
		next, err := rotate(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{retired, next.ID} {
			if err := r.Purge(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if signsWith(t, r) != active || slices.Contains(published(t, r), id) {
				t.Errorf("after purging %s: %v", id, published(t, r))
			}
		}
	})
}
