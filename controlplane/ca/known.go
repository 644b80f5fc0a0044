package ca

import (
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// publish replaces the keys of a replica, and lets those of its predecessors end.
// A key that was there keeps when it was first published, and that it is held.
func (s *store) publish(r *workloadv1.PublishAssertionKeysRequest, rows []keyRow) error {
	replica := []byte(r.GetReplica())
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		now := s.now()
		if err := forget(tx, keysBucket, func(r keysRow) bool { return r.living(now) == 0 }); err != nil {
			return err
		}
		old, found, err := get[keysRow](tx, keysBucket, replica)
		if err != nil {
			return err
		}
		if ends := r.GetPredecessorsEnd(); !found && r.GetPlace() != "" && ends != nil {
			if err := endAt(tx, r.GetPlace(), ends.AsTime()); err != nil {
				return err
			}
		}
		for i, k := range rows {
			if at := slices.IndexFunc(old.Keys, func(o keyRow) bool { return o.ID == k.ID }); at >= 0 {
				rows[i].Published, rows[i].Held = old.Keys[at].Published, old.Keys[at].Held
			}
		}
		if err := put(tx, keysBucket, replica, keysRow{Keys: rows, Place: r.GetPlace()}); err != nil {
			return err
		}
		if len(rows) <= old.living(now) {
			return nil // whatever others have, it may keep what it has
		}
		return checkRoom(tx, now)
	})
}

// living are the keys that have not ended.
func (r keysRow) living(now time.Time) (n int) {
	for _, k := range r.Keys {
		if now.Before(k.Expires) {
			n++
		}
	}
	return n
}

// endAt lets the keys of a place end at a time, if not sooner.
func endAt(tx *bbolt.Tx, place string, end time.Time) error {
	return amendKeys(tx, func(r keysRow) (changed bool) {
		for i, k := range r.Keys {
			if r.Place == place && k.Expires.After(end) {
				r.Keys[i].Expires, changed = end, true
			}
		}
		return changed
	})
}

// amendKeys has each replica's keys changed in place, and writes down those
// that were.
func amendKeys(tx *bbolt.Tx, change func(keysRow) bool) error {
	changed := map[string]keysRow{}
	err := each(tx, keysBucket, func(replica []byte, r keysRow) error {
		if change(r) {
			changed[string(replica)] = r
		}
		return nil
	})
	for replica, r := range changed {
		if err == nil {
			err = put(tx, keysBucket, []byte(replica), r)
		}
	}
	return err
}

// checkRoom refuses more keys than whoever verifies keeps.
func checkRoom(tx *bbolt.Tx, now time.Time) error {
	all, first := 0, time.Time{}
	err := each(tx, keysBucket, func(_ []byte, r keysRow) error {
		all += r.living(now)
		for _, k := range r.Keys {
			if now.Before(k.Expires) && (first.IsZero() || k.Expires.Before(first)) {
				first = k.Expires
			}
		}
		return nil
	})
	if err == nil && all > maxAllKeys {
		err = refuse("with these there were %d assertion keys, and whoever verifies keeps %d: run fewer authorizers, or let them rotate their keys less often; of the present keys the first ends at %s", all, maxAllKeys, first.Format(time.RFC3339))
	}
	return err
}

func (s *store) keys() (all []keyRow, err error) {
	err = s.bolt.View(func(tx *bbolt.Tx) error {
		return each(tx, keysBucket, func(_ []byte, r keysRow) error {
			all = append(all, r.Keys...)
			return nil
		})
	})
	return all, err
}

// hold writes down that everybody holds these keys.
func (s *store) hold(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		return amendKeys(tx, func(r keysRow) (changed bool) {
			for i, k := range r.Keys {
				if !k.Held && slices.Contains(ids, k.ID) {
					r.Keys[i].Held, changed = true, true
				}
			}
			return changed
		})
	})
}

// watches writes down that an id watches, or no longer does.
func (s *store) watches(id string, now bool) error {
	known := false
	if err := s.bolt.View(func(tx *bbolt.Tx) error {
		known = tx.Bucket(watchersBucket).Get([]byte(id)) != nil
		return nil
	}); err != nil || known == now {
		return err
	}
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		if !now {
			return tx.Bucket(watchersBucket).Delete([]byte(id))
		}
		return tx.Bucket(watchersBucket).Put([]byte(id), []byte("{}"))
	})
}

func (s *store) watchers() (ids []string, err error) {
	err = s.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(watchersBucket).ForEach(func(key, _ []byte) error {
			ids = append(ids, string(key))
			return nil
		})
	})
	return ids, err
}

var (
	sequenceKey = []byte("bundle-sequence")
	digestKey   = []byte("bundle-digest")
)

// sequence is the number of the bundle with this digest; it grows with each
// change.
func (s *store) sequence(digest []byte) (sequence uint64, err error) {
	same := false
	read := func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if number := meta.Get(sequenceKey); len(number) == 8 {
			sequence = binary.BigEndian.Uint64(number)
		}
		same = string(meta.Get(digestKey)) == string(digest)
		return nil
	}
	if err := s.bolt.View(read); err != nil || same {
		return sequence, err
	}
	sequence++
	err = s.bolt.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if err := meta.Put(sequenceKey, binary.BigEndian.AppendUint64(nil, sequence)); err != nil {
			return err
		}
		return meta.Put(digestKey, digest)
	})
	return sequence, err
}
