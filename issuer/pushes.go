package issuer

import (
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// pushesAtOnce is how many requests of clients that prove nothing may come
	// at once from everywhere, and pushEvery how soon each makes room for
	// another. What they store is bounded by it: 52 MB, were each of the largest.
	pushesAtOnce = 500
	pushEvery    = 10 * time.Millisecond
	// pushesOfAddress and pushEveryOfAddress are the same of one address: an
	// office behind it can log in, and it cannot use up what is everybody's.
	pushesOfAddress    = 60
	pushEveryOfAddress = time.Second
)

// pushes slows down pushed requests of clients that anybody can be: else
// strangers could fill the store, and one of them keep all others from logging
// in.
type pushes struct{ addresses, all *budget.Buckets }

func newPushes() pushes {
	return pushes{addresses: budget.New(pushesOfAddress, pushEveryOfAddress), all: budget.New(pushesAtOnce, pushEvery)}
}

// wait is how long a client has to wait before it may push from an address;
// zero: not at all, and the push counts.
func (p *pushes) wait(client store.Client, address string, now time.Time) time.Duration {
	if !anybodys(client) {
		return 0
	}
	from := budget.KeyOf(address)
	if wait := p.addresses.Take(from, now); wait > 0 {
		return wait
	}
	wait := p.all.Take(budget.Key{}, now)
	if wait > 0 {
		p.addresses.Give(from)
	}
	return wait
}
