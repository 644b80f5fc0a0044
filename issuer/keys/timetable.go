package keys

import (
	"maps"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// timetable has a schedule for each algorithm: their keys come and go
// independently of one another.
type timetable map[string]schedule

func (t timetable) algorithms() []string { return slices.Sorted(maps.Keys(t)) }

// due is what has to change by now. Keys of an algorithm that is no longer
// signed with retire, and go once nothing they signed can be alive.
func (t timetable) due(keys []store.Key, now time.Time) (c store.KeyChange, err error) {
	for _, algorithm := range t.algorithms() {
		own, err := t[algorithm].due(of(keys, algorithm), now)
		if err != nil {
			return c, err
		}
		c.Put, c.Delete = append(c.Put, own.Put...), append(c.Delete, own.Delete...)
	}
	for _, k := range keys {
		if _, signs := t[k.Algorithm]; signs {
			continue
		}
		switch k.State {
		case store.KeyNext, store.KeyActive:
			c.Put = append(c.Put, retired(k, now))
		default:
			if t.any().gone(k, now) {
				c.Delete = append(c.Delete, k.ID)
			}
		}
	}
	return c, nil
}

// any is a schedule of the ring; all have the same times.
func (t timetable) any() schedule { return t[t.algorithms()[0]] }

// rotate publishes a next key for each of the algorithms that has none yet.
func (t timetable) rotate(algorithms []string, keys []store.Key, now time.Time) (c store.KeyChange, err error) {
	for _, algorithm := range algorithms {
		own, err := t[algorithm].rotate(of(keys, algorithm), now)
		if err != nil {
			return c, err
		}
		c.Put = append(c.Put, own.Put...)
	}
	return c, nil
}

// purge throws a key away, whatever it signed with.
func (t timetable) purge(keys []store.Key, id string, now time.Time) (store.KeyChange, error) {
	k, _ := find(keys, id)
	s, signs := t[k.Algorithm]
	if !signs {
		return t.any().purge(keys, id, now)
	}
	return s.purge(of(keys, k.Algorithm), id, now)
}

// wake is when something is due next; zero: nothing is.
func (t timetable) wake(keys []store.Key) (at time.Time) {
	for _, s := range t {
		if next := s.wake(of(keys, s.algorithm)); at.IsZero() || !next.IsZero() && next.Before(at) {
			at = next
		}
	}
	return at
}

// of are the keys of an algorithm.
func of(keys []store.Key, algorithm string) []store.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k store.Key) bool { return k.Algorithm != algorithm })
}

// drafts are new keys that wait to be used, so that none is generated within a
// transaction: an RSA key takes a good part of a second, and others wait.
type drafts struct {
	sealer sealer
	made   map[string]store.Key
}

// make is a new key for an algorithm, generated once however often it is asked
// for.
func (d *drafts) make(algorithm string, now time.Time) (store.Key, error) {
	if k, ok := d.made[algorithm]; ok {
		k.CreatedAt = now
		return k, nil
	}
	k, err := d.sealer.generate(algorithm, now)
	if err == nil {
		d.made[algorithm] = k
	}
	return k, err
}

// used forgets the drafts that were stored: a key is never handed out twice.
func (d *drafts) used(stored []store.Key) {
	for _, k := range stored {
		if d.made[k.Algorithm].ID == k.ID {
			delete(d.made, k.Algorithm)
		}
	}
}
