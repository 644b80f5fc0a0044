package token_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
)

func TestReplays(t *testing.T) {
	r := token.NewReplays(100)
	until := testNow.Add(time.Minute)
	use := func(at time.Duration, parts ...string) error { return r.Use(testNow.Add(at), until.Add(at), parts...) }
	if err := errors.Join(use(0, "a", "b"), use(0, "ab"), use(0, "a", "bc"), use(0, "", "ab")); err != nil {
		t.Fatalf("first uses: %v", err)
	}
	for _, at := range []time.Duration{0, 30 * time.Second, time.Minute} {
		if err := r.Use(testNow.Add(at), until, "a", "b"); !errors.Is(err, token.ErrReplayed) {
			t.Errorf("after %s: %v", at, err)
		}
	}
	// It is remembered while new ones keep coming.
	for i := range 40 {
		if err := use(time.Duration(i)*time.Second, strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Use(until, until, "ab"); !errors.Is(err, token.ErrReplayed) {
		t.Errorf("at its end: %v", err)
	}
	if err := use(10*time.Minute, "a", "b"); err != nil {
		t.Errorf("long after: %v", err)
	}
}

func TestReplaysAreBounded(t *testing.T) {
	r := token.NewReplays(10)
	full := 0
	for i := range 100 {
		if err := r.Use(testNow, testNow.Add(time.Minute), strconv.Itoa(i)); errors.Is(err, token.ErrReplaysFull) {
			full++
		}
	}
	if full < 90 {
		t.Errorf("%d of 100 were remembered, the limit is 10", 100-full)
	}
	if err := r.Use(testNow.Add(3*time.Minute), testNow.Add(4*time.Minute), "later"); err != nil {
		t.Errorf("once the others are over: %v", err)
	}
}

// Of any number of parallel uses one succeeds.
func TestReplaysInParallel(t *testing.T) {
	r := token.NewReplays(100)
	var used atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if r.Use(testNow, testNow.Add(time.Minute), "once") == nil {
				used.Add(1)
			}
		})
	}
	wg.Wait()
	if used.Load() != 1 {
		t.Errorf("%d uses", used.Load())
	}
}

func TestNonces(t *testing.T) {
	span := time.Minute
	n := token.NewNonces([]byte("key"), span)
	nonce := n.Current(testNow)
	for at, good := range map[time.Duration]bool{0: true, span: true, 2 * span: false, -span: false} {
		if n.Good(nonce, testNow.Add(at)) != good {
			t.Errorf("after %s: %t", at, !good)
		}
	}
	for name, text := range map[string]string{
		"none": "", "another": "AAAAAAAAAAAAAAAAAAAAAA", "longer": nonce + "A",
		"of another key": token.NewNonces([]byte("other"), span).Current(testNow),
	} {
		if n.Good(text, testNow) {
			t.Errorf("%s is good", name)
		}
	}
	if n.Current(testNow.Add(span)) == nonce {
		t.Error("the nonce does not change")
	}
}
