package harness

import (
	"os"
	"testing"
	"time"
)

// poll is how often a condition is looked at.
const poll = 10 * time.Millisecond

// Try looks at a condition until it holds; else it returns what the condition
// said last.
func Try(within time.Duration, condition func() error) error {
	err := condition()
	if err == nil {
		return nil
	}
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err = condition(); err == nil {
				return nil
			}
		case <-deadline.C:
			return err
		}
	}
}

// Eventually fails the test unless the condition holds within the time.
func Eventually(t testing.TB, within time.Duration, condition func() error) {
	t.Helper()
	if err := Try(within, condition); err != nil {
		t.Fatalf("not within %v: %v", within, err)
	}
}

// During fails the test as soon as the condition does not hold; it looks at it
// for the whole time.
func During(t testing.TB, span time.Duration, condition func() error) {
	t.Helper()
	end := time.Now().Add(span)
	if err := Try(span+time.Second, func() error {
		if err := condition(); err != nil {
			t.Fatalf("not throughout %v: %v", span, err)
		}
		if time.Now().Before(end) {
			return errOngoing
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Exists tells whether a file, or socket, is there.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
