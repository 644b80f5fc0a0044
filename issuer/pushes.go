package issuer

import (
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// pushesAtOnce is how many requests of clients that prove nothing may come
	// at once, and pushEvery how soon each makes room for another. What they
	// store is bounded by it.
	pushesAtOnce = 200
	pushEvery    = 50 * time.Millisecond
)

// pushes slows down pushed requests of clients without a proof, which are
// anybody's: else strangers could fill the store.
type pushes struct {
	mu sync.Mutex
	// free is when all would have made room.
	free time.Time
}

// wait is how long a client has to wait before it may push; zero: not at all,
// and the push counts.
func (p *pushes) wait(client store.Client, now time.Time) time.Duration {
	if client.Type == store.Confidential {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	if over := p.free.Add(pushEvery).Sub(now) - pushesAtOnce*pushEvery; over > 0 {
		return over
	}
	p.free = p.free.Add(pushEvery)
	return 0
}
