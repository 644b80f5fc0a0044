package login

import (
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
)

// guesses slows down the guessing of user codes (RFC 8628 §5.1). A code has
// some 34 bits and lives for minutes, so what counts is how often anybody may
// be wrong: by account, by address and altogether. A right code is no guess.
type guesses struct {
	now                 func() time.Time
	accounts, addresses *budget.Buckets
	all                 *budget.Buckets
	// starts are device authorizations begun from an address: each takes room.
	starts *budget.Buckets
}

func newGuesses(now func() time.Time) *guesses {
	return &guesses{
		now:       now,
		accounts:  budget.New(10, 30*time.Second),
		addresses: budget.New(50, 5*time.Second),
		all:       budget.New(200, 100*time.Millisecond),
		starts:    budget.New(20, 10*time.Second),
	}
}

// take counts a guess before it is tried; wait > 0 tells to come again later,
// and forgive takes it back.
func (g *guesses) take(account, address string) (forgive func(), wait time.Duration) {
	now := g.now()
	keys := []budget.Key{budget.KeyOf(account), budget.KeyOf(address), {}}
	kinds := []*budget.Buckets{g.accounts, g.addresses, g.all}
	for i, b := range kinds {
		if wait = b.Take(keys[i], now); wait > 0 {
			for j := range i {
				kinds[j].Give(keys[j])
			}
			return nil, wait
		}
	}
	return func() {
		for i, b := range kinds {
			b.Give(keys[i])
		}
	}, 0
}

// StartDevice counts a device authorization that somebody begins who proved
// nothing; wait > 0 tells to come again later.
func (p *Pages) StartDevice(r *http.Request) (wait time.Duration) {
	return p.guesses.starts.Take(budget.KeyOf(ClientAddress(r)), p.deps.Now())
}
