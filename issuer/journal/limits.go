package journal

import (
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// Callers who did not prove themselves can send what they like: of theirs
	// only so many are written, and the others counted, so that nobody fills
	// the disk. At worst it is some 8 GB in 90 days.
	strangersBurst = 600
	strangersEvery = 500 * time.Millisecond
	// One address gets a part of it, so that a noisy one hides no other's.
	addressBurst = 150
	addressEvery = 4 * time.Second
	// A client that proved itself is refused for its own mistakes, which may
	// come in a loop.
	clientBurst = 600
	clientEvery = time.Second
	// Anomalies are few, but whoever has many addresses makes many.
	anomalyBurst = 200
	anomalyEvery = 10 * time.Second
)

// limits say what of the avoidable is entered.
type limits struct{ strangers, addresses, clients, anomalies *budget.Buckets }

func newLimits() *limits {
	return &limits{
		strangers: budget.New(strangersBurst, strangersEvery),
		addresses: budget.New(addressBurst, addressEvery),
		clients:   budget.New(clientBurst, clientEvery),
		anomalies: budget.New(anomalyBurst, anomalyEvery),
	}
}

// stranger takes one event from the budgets of strangers.
func (l *limits) stranger(e store.Event) bool {
	address := budget.KeyOf(e.Address)
	if l.addresses.Take(address, e.At) > 0 {
		return false
	}
	if l.strangers.Take(budget.Key{}, e.At) > 0 {
		l.addresses.Give(address)
		return false
	}
	return true
}

// refusal takes one event from the budget of a client.
func (l *limits) refusal(e store.Event) bool {
	return l.clients.Take(budget.KeyOf(e.Client), e.At) == 0
}

// anomaly takes one event from the budget of its kind.
func (l *limits) anomaly(e store.Event) bool {
	return l.anomalies.Take(budget.KeyOf(e.Name), e.At) == 0
}
