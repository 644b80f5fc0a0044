package backchannel

import (
	"context"
	"slices"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// round is one batch of notices. A client whose server takes too long, is not
// there or says that it is overloaded costs it one attempt or a few: its other
// notices are put off, and those of other clients do not wait for them.
type round struct {
	sender *Sender

	mu   sync.Mutex
	down map[string]bool
}

// handle tries a notice, unless its client was found to be down.
func (r *round) handle(ctx context.Context, l store.Logout) error {
	now := r.sender.deps.Now()
	if r.isDown(l.ClientID) && now.Sub(l.EndedAt) < giveUp {
		return r.sender.deps.Store.PostponeLogout(ctx, l, now.Add(putOff(now.Sub(l.EndedAt))))
	}
	down, err := r.sender.handle(ctx, l)
	if down {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.down[l.ClientID] = true
	}
	return err
}

// putOff is how long a notice of some age is put off that was not tried. It grows
// with the age, as wait does with the attempts: many notices to a client that
// stays away would be taken up every few seconds else.
func putOff(age time.Duration) time.Duration {
	return min(max(age, firstWait), longestWait)
}

func (r *round) isDown(clientID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down[clientID]
}

// inTurns sorts notices so that each client has its first before any has its
// second, and so on.
func inTurns(due []store.Logout) []store.Logout {
	seen, turn := map[string]int{}, map[string]int{}
	for _, l := range due {
		turn[l.ID] = seen[l.ClientID]
		seen[l.ClientID]++
	}
	slices.SortStableFunc(due, func(a, b store.Logout) int { return turn[a.ID] - turn[b.ID] })
	return due
}
