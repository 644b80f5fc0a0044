package token

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// Why Replays.Use refuses.
var (
	// ErrReplayed: it was used before.
	ErrReplayed = errors.New("it was used before")
	// ErrReplaysFull: there is no room to remember it, so nobody could tell
	// whether it comes again.
	ErrReplaysFull = errors.New("too many were used of late to remember another")
)

// Replays remembers what may be used once, such as a proof's jti, for as long
// as it could be used again, in bounded memory: about 64 bytes each. It is safe
// for concurrent use. What one process remembers another does not know.
type Replays struct {
	limit int

	mu sync.Mutex
	// Two generations: the older goes as a whole, once all in it are over.
	young, old generation
}

type generation struct {
	used map[[16]byte]struct{}
	// over is when all in it are over.
	over time.Time
}

// NewReplays remembers at most limit uses of late.
func NewReplays(limit int) *Replays {
	return &Replays{limit: max(limit, 2), young: newGeneration(), old: newGeneration()}
}

func newGeneration() generation { return generation{used: map[[16]byte]struct{}{}} }

// Use notes that something is used now, and must not be again before it is over
// at the time until. Names are told apart by all of their parts.
func (r *Replays) Use(now, until time.Time, parts ...string) error {
	key := replayKey(parts)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.After(r.young.over) {
		r.young = newGeneration()
	}
	if now.After(r.old.over) {
		r.old, r.young = r.young, newGeneration()
	}
	if r.young.has(key) || r.old.has(key) {
		return ErrReplayed
	}
	if len(r.young.used) >= r.limit/2 {
		return ErrReplaysFull
	}
	r.young.used[key] = struct{}{}
	if until.After(r.young.over) {
		r.young.over = until
	}
	return nil
}

func (g generation) has(key [16]byte) bool {
	_, found := g.used[key]
	return found
}

// replayKey is half a SHA-256: to make two collide on purpose only spends both.
func replayKey(parts []string) (key [16]byte) {
	h := sha256.New()
	for _, part := range parts {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	copy(key[:], h.Sum(nil))
	return key
}
