package login

import (
	"fmt"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	now := start
	throttle := newThrottle(func() time.Time { return now })
	try := func(account, address string) bool {
		_, wait := throttle.take(account, address)
		return wait == 0
	}
	for i := range 5 {
		if !try("alice", "203.0.113.1") {
			t.Fatalf("attempt %d was held back", i+1)
		}
	}
	if try("alice", "203.0.113.1") {
		t.Error("a sixth guess came through")
	}
	if !try("alice", "198.51.100.7") {
		t.Error("guesses from one address locked the person out at another")
	}
	now = now.Add(29 * time.Second)
	if try("alice", "203.0.113.1") {
		t.Error("the next guess came through too early")
	}
	now = now.Add(time.Second)
	if !try("alice", "203.0.113.1") || try("alice", "203.0.113.1") {
		t.Error("after a while exactly one guess is free again")
	}
}

// One address may not try many accounts either.
func TestThrottlePerAddress(t *testing.T) {
	throttle := newThrottle(func() time.Time { return start })
	through := 0
	for i := range 100 {
		if _, wait := throttle.take(fmt.Sprint("user", i), "203.0.113.1"); wait == 0 {
			through++
		}
	}
	if through != 50 {
		t.Errorf("%d guesses came through, want 50", through)
	}
}

// A right password gives back what it took, and forgets earlier slips.
func TestThrottleForgives(t *testing.T) {
	throttle := newThrottle(func() time.Time { return start })
	for round := range 10 {
		for range 4 {
			throttle.take("alice", "203.0.113.1")
		}
		forgive, wait := throttle.take("alice", "203.0.113.1")
		if wait > 0 {
			t.Fatalf("round %d: a person who gets it right after four slips was held back", round)
		}
		forgive()
	}
	if _, wait := throttle.take("alice", "203.0.113.1"); wait > 0 {
		t.Error("the address did not get back what right passwords took")
	}
}
