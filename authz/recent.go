package authz

import (
	"sync"
	"time"
)

// recent remembers what is of use for a minute, within a bound of bytes: two
// generations, of which the older is dropped whole when the younger is full or
// a minute old. Nothing in it is touched when it is read.
type recent[K comparable, V any] struct {
	limit int64 // of one generation

	mu         sync.RWMutex
	young, old map[K]V
	bytes      int64 // of the young
	turned     time.Time
}

const generation = time.Minute

func newRecent[K comparable, V any](bytes int64) *recent[K, V] {
	return &recent[K, V]{limit: bytes / 2, young: map[K]V{}}
}

func (r *recent[K, V]) get(key K) (value V, found bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if value, found = r.young[key]; !found {
		value, found = r.old[key]
	}
	return value, found
}

func (r *recent[K, V]) put(key K, value V, size int64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+size > r.limit || now.Sub(r.turned) > generation {
		r.old, r.young, r.bytes, r.turned = r.young, map[K]V{}, 0, now
	}
	if size > r.limit {
		return
	}
	r.young[key] = value
	r.bytes += size
}
