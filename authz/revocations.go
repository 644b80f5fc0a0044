package authz

import (
	"errors"
	"fmt"
	"sync"
	"time"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// maxDrift is how far this machine's clock may be from the issuer's: beyond it
// neither expiry nor not-before can be judged.
const maxDrift = 5 * time.Second

// revocations is what is known of one issuer's revocations and how fresh that
// is. The feed's goroutine is the only writer.
type revocations struct {
	now func() time.Time
	// keep is how long past its expiry an entry is kept, as tokens are accepted
	// that long past theirs.
	keep time.Duration
	// purged is told of each revoked key.
	purged func(kid string)
	// restored is told, before the new state is in force, that the issuer's log
	// is another one than before.
	restored func()

	mu       sync.RWMutex
	set      *revocationSet // nil until the first complete snapshot
	epoch    string         // empty: start over
	last     string         // the epoch of set
	sequence uint64
	heard    time.Time     // receipt of the last heartbeat that found us current
	drift    time.Duration // this clock minus the issuer's, at the last heartbeat

	pending *snapshot // parts of a snapshot that is not complete; the writer's own
}

type snapshot struct {
	epoch    string
	sequence uint64
	set      *revocationSet
	keys     []string
}

// feedState is how fresh the state was that a decision rests on.
type feedState struct {
	sequence uint64
	age      time.Duration
}

// check denies a revoked token, and any token where the state is missing, has
// another clock than ours, or is older than maxAge. What is known to be revoked
// stays so however old the state is.
func (r *revocations) check(token subject, maxAge time.Duration) (feedState, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.set == nil {
		return feedState{}, r.lackLocked()
	}
	state := feedState{sequence: r.sequence, age: r.now().Sub(r.heard)}
	if kind := r.set.match(token); kind != revocationv1.Kind_KIND_UNSPECIFIED {
		return state, deny(ReasonRevoked, "the token is revoked by %s", kind)
	}
	if err := r.lackLocked(); err != nil {
		return state, err
	}
	if state.age < 0 || state.age > maxAge {
		return state, deny(ReasonRevocationStale, "the revocation state is %s old, the route allows %s", state.age, maxAge)
	}
	return state, nil
}

// lack is what no request can be decided without; nil: nothing.
func (r *revocations) lack() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.lackLocked()
}

func (r *revocations) lackLocked() error {
	switch {
	case r.set == nil:
		return deny(ReasonRevocationMissing, "no complete snapshot of the revocation feed has arrived")
	case r.heard.IsZero():
		return deny(ReasonRevocationMissing, "no heartbeat of the revocation feed has arrived since its snapshot")
	case r.drift.Abs() > maxDrift:
		return deny(ReasonClock, "this machine's clock differs from the issuer's by %s, more than %s: synchronise both", r.drift.Round(time.Millisecond), maxDrift)
	}
	return nil
}

// position is where the feed is to be resumed.
func (r *revocations) position() (epoch string, sequence uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.epoch, r.sequence
}

// startOver makes the next watch ask for a snapshot. What is known stays in
// force, and ages, until that is complete.
func (r *revocations) startOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch, r.sequence = "", 0
}

// begin forgets the parts of a snapshot that a broken stream left.
func (r *revocations) begin() { r.pending = nil }

// apply takes in one message; progress tells whether it brought the state
// forward. After an error the feed must start over.
func (r *revocations) apply(message *revocationv1.WatchResponse) (progress bool, err error) {
	switch m := message.GetMessage().(type) {
	case *revocationv1.WatchResponse_Snapshot:
		return true, r.part(m.Snapshot)
	case *revocationv1.WatchResponse_Changes:
		return true, r.changes(m.Changes)
	case *revocationv1.WatchResponse_Heartbeat:
		return r.heartbeat(m.Heartbeat)
	default:
		return false, errors.New("the feed sent a message of an unknown kind")
	}
}

func (r *revocations) part(part *revocationv1.Snapshot) error {
	if part.GetEpoch() == "" {
		return errors.New("the feed sent a snapshot without an epoch")
	}
	if r.pending == nil {
		r.pending = &snapshot{epoch: part.GetEpoch(), sequence: part.GetSequence(), set: newRevocationSet()}
	}
	if r.pending.epoch != part.GetEpoch() || r.pending.sequence != part.GetSequence() {
		return errors.New("the feed mixed parts of two snapshots")
	}
	for _, revocation := range part.GetRevocations() {
		if err := r.pending.set.add(revocation); err != nil {
			return err
		}
		if revocation.GetKind() == revocationv1.Kind_KIND_KEY {
			r.pending.keys = append(r.pending.keys, revocation.GetId())
		}
	}
	if part.GetComplete() {
		r.replace()
	}
	return nil
}

// replace puts a complete snapshot in force. In a new epoch it does not tell
// what the old log went on to say, nor which keys were made and lost since the
// backup that the issuer was restored from.
func (r *revocations) replace() {
	if r.last != "" && r.last != r.pending.epoch {
		r.restored()
	}
	r.mu.Lock()
	r.set, r.epoch, r.sequence = r.pending.set, r.pending.epoch, r.pending.sequence
	r.last = r.epoch
	r.mu.Unlock()
	for _, kid := range r.pending.keys {
		r.purged(kid)
	}
	r.pending = nil
}

func (r *revocations) changes(changes *revocationv1.Changes) error {
	r.mu.Lock()
	err := r.applyLocked(changes)
	r.mu.Unlock()
	for _, revocation := range changes.GetRevocations() {
		if revocation.GetKind() == revocationv1.Kind_KIND_KEY {
			r.purged(revocation.GetId())
		}
	}
	return err
}

func (r *revocations) applyLocked(changes *revocationv1.Changes) error {
	if r.pending != nil || r.set == nil {
		return errors.New("the feed sent changes before its snapshot was complete")
	}
	if r.epoch == "" || changes.GetEpoch() != r.epoch {
		return fmt.Errorf("the feed's epoch changed from %q to %q", r.epoch, changes.GetEpoch())
	}
	for _, revocation := range changes.GetRevocations() {
		if revocation.GetSequence() != r.sequence+1 {
			return fmt.Errorf("the feed has a gap: %d came after %d", revocation.GetSequence(), r.sequence)
		}
		if err := r.set.add(revocation); err != nil {
			return err
		}
		r.sequence++
	}
	return nil
}

// heartbeat marks the state as current where the issuer's log ends at what has
// been applied. A log that ends earlier has lost entries, so it does not count.
func (r *revocations) heartbeat(beat *revocationv1.Heartbeat) (current bool, err error) {
	if !beat.GetTime().IsValid() || beat.GetTime().GetSeconds() == 0 {
		return false, errors.New("the feed sent a heartbeat without a time")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.pending != nil {
		return false, nil
	}
	if beat.GetEpoch() != r.epoch {
		return false, fmt.Errorf("the feed's epoch changed from %q to %q", r.epoch, beat.GetEpoch())
	}
	now := r.now()
	r.drift = now.Sub(beat.GetTime().AsTime())
	if beat.GetSequence() != r.sequence {
		return false, nil
	}
	r.heard = now
	return true, nil
}

// sweep forgets what no living token can match.
func (r *revocations) sweep() {
	if r.set != nil {
		r.set.sweep(&r.mu, r.now().Add(-r.keep))
	}
}

// figures are for metrics: entries held and the age of the state, -1 before the
// first heartbeat.
func (r *revocations) figures() (entries int, age time.Duration) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.set == nil {
		return 0, -1
	}
	if r.heard.IsZero() {
		return r.set.len(), -1
	}
	return r.set.len(), r.now().Sub(r.heard)
}
