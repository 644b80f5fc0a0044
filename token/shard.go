package token

import (
	"strings"
	"sync"
	"unsafe"
)

// shard is a part of a Cache: a map, and a ring of its entries from the most to
// the least recently used.
type shard struct {
	mu      sync.Mutex
	entries map[digest]*entry
	ring    entry // its next is the most recently used, its prev the least
	bytes   int64
	limit   int64
}

// entry is one token's place in a shard.
type entry struct {
	claims     *Claims
	prev, next *entry
	size       int64
}

// stale is how many of the least recently used entries a Put looks at for
// having expired, so that dead ones go without anybody asking for them.
const stale = 2

func (s *shard) init(limit int64) {
	s.entries = map[digest]*entry{}
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	s.limit = limit
}

func (s *shard) get(hash digest) *Claims {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[hash]
	if e == nil {
		return nil
	}
	if s.ring.next != e {
		e.unlink()
		s.link(e)
	}
	return e.claims
}

func (s *shard) put(claims *Claims, now int64) {
	size := claims.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[claims.hash]; old != nil {
		s.remove(old)
	}
	for range stale {
		if last := s.ring.prev; last != &s.ring && last.claims.expires.micros <= now {
			s.remove(last)
		}
	}
	if size > s.limit {
		return
	}
	for s.bytes+size > s.limit {
		s.remove(s.ring.prev)
	}
	e := &entry{claims: claims, size: size}
	s.entries[claims.hash] = e
	s.bytes += size
	s.link(e)
}

func (s *shard) drop(hash digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[hash]; e != nil {
		s.remove(e)
	}
}

func (s *shard) dropKey(key string) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if k := e.claims.key; k.thumbprint == key || k.id == key {
			s.remove(e)
			dropped++
		}
	}
	return dropped
}

func (s *shard) usage() (entries int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries), s.bytes
}

func (s *shard) remove(e *entry) {
	delete(s.entries, e.claims.hash)
	e.unlink()
	s.bytes -= e.size
}

func (s *shard) link(e *entry) {
	e.prev, e.next = &s.ring, s.ring.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

// perToken is what an entry takes whatever its token says: the claims, the
// entry, and the map's slot. Maps grow by doubling, so a slot's share is
// reckoned at half use.
const perToken = int64(unsafe.Sizeof(Claims{})+unsafe.Sizeof(entry{})) + 2*int64(unsafe.Sizeof(digest{})+unsafe.Sizeof((*entry)(nil)))

// size is what keeping the claims takes, in bytes: the claims set, which most
// of its strings are parts of, the lists of strings, and an allowance for
// strings that had escapes and for the allocator's rounding.
func (c *Claims) size() int64 {
	list := int64(len(c.audience)+len(c.scopes)+len(c.roles)) * int64(unsafe.Sizeof(""))
	text := int64(len(c.text))
	list += int64(len(c.ancestors)) * int64(unsafe.Sizeof(Ancestor{}))
	size := perToken + text + list + c.unescaped()
	return size + size/8
}

// unescaped counts the strings that may have been copied: all, if the claims
// set has an escape at all.
func (c *Claims) unescaped() int64 {
	if !strings.Contains(c.text, `\`) {
		return 0
	}
	return int64(len(c.text))
}
