package keys

import (
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// purgedKept is how long the list of keys remembers a purged one.
const purgedKept = 365 * 24 * time.Hour

// schedule is how the keys of an algorithm go from next over active to retired.
type schedule struct {
	algorithm string
	// lead is how long a key is published before it signs.
	lead time.Duration
	// every is how long a key signs.
	every time.Duration
	// retention is how long a retired key stays published.
	retention time.Duration
	// make makes a new key.
	make func(now time.Time) (store.Key, error)
}

// ring is the keys in their states.
type ring struct {
	active, next *store.Key
	others       []store.Key
}

func sorted(keys []store.Key) (r ring) {
	for _, k := range keys {
		switch {
		case k.State == store.KeyActive && r.active == nil:
			r.active = &k
		case k.State == store.KeyNext && r.next == nil:
			r.next = &k
		default:
			r.others = append(r.others, k)
		}
	}
	return r
}

// due is what has to change by now.
func (s schedule) due(keys []store.Key, now time.Time) (c store.KeyChange, err error) {
	r := sorted(keys)
	switch {
	case r.active == nil:
		c, err = s.replace(r, now)
	case r.next != nil && !now.Before(r.next.ActiveAt):
		c.Put = []store.Key{retired(*r.active, now), activated(*r.next, now)}
	case r.next == nil && !now.Before(r.active.ActiveAt.Add(s.every-s.lead)):
		c, err = s.announce(now)
	}
	for _, k := range r.others {
		if s.gone(k, now) {
			c.Delete = append(c.Delete, k.ID)
		}
	}
	return c, err
}

// gone tells that nothing needs a key any more.
func (s schedule) gone(k store.Key, now time.Time) bool {
	switch k.State {
	case store.KeyRetired:
		return !now.Before(k.RetiredAt.Add(s.retention))
	case store.KeyPurged:
		return !now.Before(k.RetiredAt.Add(purgedKept))
	default:
		return false
	}
}

// rotate publishes a next key, unless one is published already.
func (s schedule) rotate(keys []store.Key, now time.Time) (store.KeyChange, error) {
	if sorted(keys).next != nil {
		return store.KeyChange{}, nil
	}
	return s.announce(now)
}

// purge throws a key away; if it was the active one, another signs at once:
// verifiers fetch a key that they do not know.
func (s schedule) purge(keys []store.Key, id string, now time.Time) (c store.KeyChange, err error) {
	k, ok := find(keys, id)
	if !ok {
		return c, fmt.Errorf("key %q: %w", id, store.ErrNotFound)
	}
	switch k.State {
	case store.KeyPurged:
		return c, nil
	case store.KeyActive:
		c, err = s.replace(sorted(keys), now)
	}
	c.Purge = []string{id}
	return c, err
}

// replace makes a key sign at once: the next one, or a new one.
func (s schedule) replace(r ring, now time.Time) (store.KeyChange, error) {
	if r.next != nil {
		return store.KeyChange{Put: []store.Key{activated(*r.next, now)}}, nil
	}
	k, err := s.make(now)
	return store.KeyChange{Put: []store.Key{activated(k, now)}}, err
}

func (s schedule) announce(now time.Time) (store.KeyChange, error) {
	k, err := s.make(now)
	k.State, k.ActiveAt = store.KeyNext, now.Add(s.lead)
	return store.KeyChange{Put: []store.Key{k}}, err
}

// wake is when something is due next.
func (s schedule) wake(keys []store.Key) (at time.Time) {
	soonest := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	r := sorted(keys)
	if r.next != nil {
		soonest(r.next.ActiveAt)
	} else if r.active != nil {
		soonest(r.active.ActiveAt.Add(s.every - s.lead))
	}
	for _, k := range r.others {
		if k.State == store.KeyRetired {
			soonest(k.RetiredAt.Add(s.retention))
		}
	}
	return at
}

func activated(k store.Key, now time.Time) store.Key {
	k.State, k.ActiveAt = store.KeyActive, now
	return k
}

func retired(k store.Key, now time.Time) store.Key {
	k.State, k.RetiredAt = store.KeyRetired, now
	return k
}

func find(keys []store.Key, id string) (store.Key, bool) {
	for _, k := range keys {
		if k.ID == id {
			return k, true
		}
	}
	return store.Key{}, false
}
