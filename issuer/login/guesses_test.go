package login

import (
	"fmt"
	"testing"
	"time"
)

// Guessing is bounded for an account wherever it comes from, for an address
// whoever guesses there, and for everybody together.
func TestGuessesAreBounded(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, row := range map[string]struct {
		who  func(i int) (account, address string)
		most int
	}{
		"an account from everywhere": {func(i int) (string, string) { return "usr_1", fmt.Sprint(i) }, 10},
		"an address of everybody":    {func(i int) (string, string) { return fmt.Sprint(i), "192.0.2.1" }, 50},
		"everybody everywhere":       {func(i int) (string, string) { return fmt.Sprint(i), fmt.Sprint(i) }, 200},
	} {
		now := start
		g := newGuesses(func() time.Time { return now })
		tried := 0
		for i := range 1000 {
			if _, wait := g.take(row.who(i)); wait == 0 {
				tried++
			}
		}
		if tried != row.most {
			t.Errorf("%s: %d guesses in one moment, want %d", name, tried, row.most)
		}
		// What one bound refused took nothing from the others.
		if _, wait := g.take("somebody else", "198.51.100.1"); (wait == 0) != (row.most < 200) {
			t.Errorf("%s: somebody else has to wait %s", name, wait)
		}
		now = start.Add(30 * time.Second)
		if _, wait := g.take(row.who(0)); wait > 0 {
			t.Errorf("%s: after a while they still have to wait %s", name, wait)
		}
	}
}

// A right code is no guess.
func TestRightCodesAreForgiven(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g := newGuesses(func() time.Time { return now })
	for i := range 1000 {
		forgive, wait := g.take("usr_1", "192.0.2.1")
		if wait > 0 {
			t.Fatalf("after %d right codes there is a wait", i)
		}
		forgive()
	}
}
