// Package budget bounds what callers may do by who they are: token buckets by
// key, in bounded memory. It holds no clock, and starts nothing.
package budget

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// Key is whom a bucket is for. It has a fixed size, however long the name is
// that somebody typed.
type Key [sha256.Size]byte

// KeyOf is the key of a name of several parts.
func KeyOf(parts ...string) Key {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return Key(h.Sum(nil))
}

// maxBuckets bounds the buckets of one kind: some 15 MB.
const maxBuckets = 100_000

// Buckets are token buckets by key. The least recently used are forgotten
// first: whoever fills the memory only gets forgotten, full, buckets for it.
type Buckets struct {
	burst float64
	// every is how long one use takes to come back.
	every time.Duration

	mu    sync.Mutex
	byKey map[Key]*list.Element
	// recent holds *bucket, the most recently used first.
	recent *list.List
}

type bucket struct {
	key    Key
	tokens float64
	at     time.Time
}

// New makes buckets of burst uses each, of which one comes back at a time.
func New(burst float64, every time.Duration) *Buckets {
	return &Buckets{burst: burst, every: every, byKey: map[Key]*list.Element{}, recent: list.New()}
}

// Take takes one use, or tells how long until there is one.
func (b *Buckets) Take(key Key, now time.Time) (wait time.Duration) {
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

// Give gives one use back.
func (b *Buckets) Give(key Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if element, ok := b.byKey[key]; ok {
		k := element.Value.(*bucket)
		k.tokens = min(b.burst, k.tokens+1)
	}
}

// Forget fills a bucket.
func (b *Buckets) Forget(key Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if element, ok := b.byKey[key]; ok {
		b.recent.Remove(element)
		delete(b.byKey, key)
	}
}

func (b *Buckets) bucket(key Key, now time.Time) *bucket {
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
