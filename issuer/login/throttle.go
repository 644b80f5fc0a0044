package login

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// throttle slows down guessing. Failures count per account and address, so
// whoever guesses cannot lock the person out, who comes from elsewhere; and per
// address over all accounts. Memory is bounded: the counts least recently used
// are forgotten first.
type throttle struct {
	now   func() time.Time
	pairs *buckets
	// addresses allow more: behind one may sit an office.
	addresses *buckets
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{
		now:       now,
		pairs:     newBuckets(5, 30*time.Second),
		addresses: newBuckets(50, 5*time.Second),
	}
}

// take counts an attempt before it is tried, so that parallel ones cannot slip
// through; wait > 0 tells to come again later. An attempt that succeeds is
// forgiven by calling forgive.
func (t *throttle) take(account, address string) (forgive func(), wait time.Duration) {
	now := t.now()
	pair, from := keyOf(account, address), keyOf("", address)
	if wait = t.addresses.take(from, now); wait > 0 {
		return nil, wait
	}
	if wait = t.pairs.take(pair, now); wait > 0 {
		t.addresses.give(from)
		return nil, wait
	}
	return func() { t.pairs.forget(pair); t.addresses.give(from) }, 0
}

// throttleKey has a fixed size, however long the account that was typed.
type throttleKey [sha256.Size]byte

func keyOf(account, address string) throttleKey {
	return sha256.Sum256([]byte(account + "\x00" + address))
}

// maxBuckets bounds the counts of one kind: some 15 MB.
const maxBuckets = 100_000

// buckets are token buckets by key.
type buckets struct {
	burst float64
	// every is how long one attempt takes to come back.
	every time.Duration

	mu    sync.Mutex
	byKey map[throttleKey]*list.Element
	// recent holds *bucket, the most recently used first.
	recent *list.List
}

type bucket struct {
	key    throttleKey
	tokens float64
	at     time.Time
}

func newBuckets(burst float64, every time.Duration) *buckets {
	return &buckets{burst: burst, every: every, byKey: map[throttleKey]*list.Element{}, recent: list.New()}
}

// take takes one attempt, or tells how long until there is one.
func (b *buckets) take(key throttleKey, now time.Time) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.bucket(key, now)
	if back := float64(now.Sub(k.at)) / float64(b.every); back > 0 {
		k.tokens, k.at = min(b.burst, k.tokens+back), now
	}
	if k.tokens < 1 {
		return time.Duration((1 - k.tokens) * float64(b.every))
	}
	k.tokens--
	return 0
}

// give gives one attempt back.
func (b *buckets) give(key throttleKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if element, ok := b.byKey[key]; ok {
		k := element.Value.(*bucket)
		k.tokens = min(b.burst, k.tokens+1)
	}
}

func (b *buckets) forget(key throttleKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if element, ok := b.byKey[key]; ok {
		b.recent.Remove(element)
		delete(b.byKey, key)
	}
}

func (b *buckets) bucket(key throttleKey, now time.Time) *bucket {
	if element, ok := b.byKey[key]; ok {
		b.recent.MoveToFront(element)
		return element.Value.(*bucket)
	}
	if b.recent.Len() >= maxBuckets {
		oldest := b.recent.Back()
		b.recent.Remove(oldest)
		delete(b.byKey, oldest.Value.(*bucket).key)
	}
	k := &bucket{key: key, tokens: b.burst, at: now}
	b.byKey[key] = b.recent.PushFront(k)
	return k
}
