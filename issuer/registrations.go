package issuer

import (
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// openRegistrations is how many clients strangers may make in a window.
	openRegistrations = 60
	openWindow        = time.Hour
	// registrationsOfAddress is how many of them come from one address at once,
	// so that it does not take all.
	registrationsOfAddress = 10
	registrationEvery      = 10 * time.Minute
	// updatesOfClient bounds how often a client changes itself: each change is
	// recorded.
	updatesOfClient = 20
	updateEvery     = time.Minute
	// assertionsOfClient bounds how often a client that made itself
	// authenticates by an assertion: each is remembered.
	assertionsOfClient = 60
	assertionEvery     = time.Second
)

// registration takes care that neither open registration nor clients that
// change themselves fill the disk.
type registration struct {
	addresses, updates, assertions *budget.Buckets

	mu    sync.Mutex
	began time.Time
	count int
}

func newRegistration() *registration {
	return &registration{
		addresses:  budget.New(registrationsOfAddress, registrationEvery),
		updates:    budget.New(updatesOfClient, updateEvery),
		assertions: budget.New(assertionsOfClient, assertionEvery),
	}
}

// admit counts an open registration from an address, and tells whether there
// may be one more.
func (g *registration) admit(address string, now time.Time) bool {
	if g.addresses.Take(budget.KeyOf(address), now) > 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.began) >= openWindow {
		g.began, g.count = now, 0
	}
	g.count++
	return g.count <= openRegistrations
}

// assert counts an assertion of a client that anybody can be; wait > 0 tells to
// come again later.
func (g *registration) assert(client store.Client, now time.Time) (wait time.Duration) {
	if !anybodys(client) {
		return 0
	}
	return g.assertions.Take(budget.KeyOf(client.ID), now)
}

// update counts a change of a client by itself; wait > 0 tells to come again
// later.
func (g *registration) update(clientID string, now time.Time) (wait time.Duration) {
	return g.updates.Take(budget.KeyOf(clientID), now)
}
