package bolt

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// maxScan bounds how many records one query looks at.
	maxScan = 5_000
	// eventLag is how long after it happened an event may be written.
	eventLag = time.Minute
	// eventHead is what stands before an event: its seal, when it was written
	// (Unix seconds).
	eventHead = len(store.Hash{}) + 8
)

// The ends of the log are marked: a record that was cut off there leaves no gap.
// A mark is sequence, seal, and a MAC over both.
var (
	// anchorKey is the last record that was swept, endKey the last of all.
	anchorKey = []byte("audit_anchor")
	endKey    = []byte("audit_end")
)

const (
	markSwept = "gatehouse audit log swept up to\x00"
	markEnd   = "gatehouse audit log ends at\x00"
)

// audit appends an event. The origin is the operation's, the time the
// transaction's, unless the event has its own. A log that does not end where its
// mark says keeps that mark, for VerifyEvents to tell: a new one would cover up
// what was cut off or forged before.
func (t *txn) audit(e store.Event) error {
	last, err := t.lastEvent()
	if err != nil {
		return err
	}
	holds := t.isMarked(endKey, markEnd, last)
	if e.Sequence, err = t.Bucket(auditLog).NextSequence(); err != nil {
		return fmt.Errorf("drawing a sequence: %w", err)
	}
	if e.At.IsZero() {
		e.At = t.now
	}
	if e.Actor == "" && e.Address == "" {
		e.Actor, e.Address = t.origin.Actor, t.origin.Address
	}
	if e.Client == "" {
		e.Client = t.origin.Client
	}
	if e.Result == "" {
		e.Result = store.Success
	}
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	body := append(binary.BigEndian.AppendUint64(nil, uint64(max(0, t.now.Unix()))), text...)
	seal := t.seal(last.Seal, e.Sequence, body)
	// Records only ever come at the end: pages can be filled.
	t.Bucket(auditLog).FillPercent = 0.95
	err = t.put(auditLog, sequenceKey(e.Sequence), append(seal[:], body...))
	if holds {
		err = errors.Join(err, t.put(meta, endKey, t.marked(markEnd, store.EventHead{Sequence: e.Sequence, Seal: seal})))
	}
	return err
}

// seal covers a record and, through the seal before, all that came earlier.
func (t *txn) seal(before store.Hash, sequence uint64, body []byte) (s store.Hash) {
	mac := hmac.New(sha256.New, t.sealKey(sequence))
	mac.Write(before[:])
	mac.Write(sequenceKey(sequence))
	mac.Write(body)
	mac.Sum(s[:0])
	return s
}

// marked is a place in the log as nobody without the key can write it.
func (t *txn) marked(kind string, h store.EventHead) []byte {
	place := append(sequenceKey(h.Sequence), h.Seal[:]...)
	mac := hmac.New(sha256.New, t.auditKey)
	mac.Write([]byte(kind))
	mac.Write(place)
	return mac.Sum(place)
}

// isMarked tells whether a place in the log is the one under a key.
func (t *txn) isMarked(key []byte, kind string, h store.EventHead) bool {
	return hmac.Equal(t.Bucket(meta).Get(key), t.marked(kind, h))
}

// sealEnds marks both ends as they are.
func (t *txn) sealEnds() error {
	last, err := t.lastEvent()
	if err != nil {
		return err
	}
	anchor, err := t.anchor()
	if err != nil {
		return err
	}
	if anchor.Sequence > 0 {
		err = t.put(meta, anchorKey, t.marked(markSwept, anchor))
	}
	return errors.Join(err, t.put(meta, endKey, t.marked(markEnd, last)))
}

// lastEvent is the end of the log; where all was swept, the last that was.
func (t *txn) lastEvent() (store.EventHead, error) {
	key, value := t.Bucket(auditLog).Cursor().Last()
	if key == nil {
		return t.anchor()
	}
	return headOf(key, value)
}

func (t *txn) anchor() (store.EventHead, error) {
	value := t.Bucket(meta).Get(anchorKey)
	if value == nil {
		return store.EventHead{}, nil
	}
	if len(value) < 8 {
		return store.EventHead{}, errors.New("decoding the audit log's anchor: it is too short")
	}
	return headOf(value[:8], value[8:])
}

func headOf(key, value []byte) (h store.EventHead, err error) {
	if len(key) != 8 || len(value) < len(h.Seal) {
		return h, fmt.Errorf("%w: a record is too short", store.ErrTampered)
	}
	h.Sequence = binary.BigEndian.Uint64(key)
	copy(h.Seal[:], value)
	return h, nil
}

// RecordEvents implements store.Audit.
func (db *DB) RecordEvents(ctx context.Context, events []store.Event) error {
	if len(events) == 0 {
		return nil
	}
	return db.write(ctx, func(t *txn) error {
		for _, e := range events {
			if err := t.audit(e); err != nil {
				return fmt.Errorf("recording events: %w", err)
			}
		}
		return nil
	})
}

// Events implements store.Audit.
func (db *DB) Events(ctx context.Context, q store.EventQuery) (found []store.Event, next uint64, more bool, err error) {
	err = db.read(ctx, func(t *txn) error {
		found, next, more, err = t.events(q)
		return err
	})
	if err != nil {
		return nil, 0, false, fmt.Errorf("reading the audit log: %w", err)
	}
	return found, next, more, nil
}

func (t *txn) events(q store.EventQuery) (found []store.Event, next uint64, more bool, err error) {
	next = max(q.After, t.writtenBefore(q.Since))
	cursor := t.Bucket(auditLog).Cursor()
	scanned := 0
	for key, value := cursor.Seek(sequenceKey(next + 1)); key != nil; key, value = cursor.Next() {
		if scanned == maxScan || len(found) == q.Limit {
			return found, next, true, nil
		}
		if len(value) < eventHead {
			return nil, 0, false, fmt.Errorf("record %d is damaged", binary.BigEndian.Uint64(key))
		}
		if !q.Until.IsZero() && writtenAt(value) > q.Until.Add(eventLag).Unix() {
			return found, next, false, nil
		}
		e, err := decode[store.Event](auditLog, value[eventHead:])
		if err != nil {
			return nil, 0, false, err
		}
		scanned, next = scanned+1, binary.BigEndian.Uint64(key)
		if q.Matches(e) {
			found = append(found, e)
		}
	}
	return found, next, false, nil
}

func writtenAt(value []byte) int64 {
	return int64(binary.BigEndian.Uint64(value[len(store.Hash{}):]))
}

// writtenBefore is the last record that was written before a time, found by
// halving: the log has no gaps and grows with time.
func (t *txn) writtenBefore(since time.Time) uint64 {
	bucket := t.Bucket(auditLog)
	first, _ := bucket.Cursor().First()
	if since.IsZero() || first == nil {
		return 0
	}
	begin := binary.BigEndian.Uint64(first)
	n := sort.Search(int(bucket.Sequence()-begin+1), func(i int) bool {
		value := bucket.Get(sequenceKey(begin + uint64(i)))
		return len(value) < eventHead || writtenAt(value) >= since.Unix()
	})
	return begin + uint64(n) - 1
}

// VerifyEvents implements store.Audit.
func (db *DB) VerifyEvents(ctx context.Context, after store.EventHead, limit int) (head store.EventHead, more bool, err error) {
	err = db.read(ctx, func(t *txn) error {
		head, more, err = t.verifyEvents(after, limit)
		return err
	})
	return head, more, err
}

func (t *txn) verifyEvents(after store.EventHead, limit int) (store.EventHead, bool, error) {
	anchor, err := t.anchor()
	if err != nil {
		return after, false, err
	}
	if anchor.Sequence > 0 && !t.isMarked(anchorKey, markSwept, anchor) {
		return after, false, fmt.Errorf("%w: the mark of what was swept, up to record %d, does not hold", store.ErrTampered, anchor.Sequence)
	}
	if anchor.Sequence > after.Sequence { // swept meanwhile, or from the start
		after = anchor
	}
	cursor := t.Bucket(auditLog).Cursor()
	checked := 0
	for key, value := cursor.Seek(sequenceKey(after.Sequence + 1)); key != nil; key, value = cursor.Next() {
		if checked == limit {
			return after, true, nil
		}
		head, err := headOf(key, value)
		if err != nil {
			return after, false, err
		}
		if head.Sequence != after.Sequence+1 {
			return after, false, fmt.Errorf("%w: record %d is missing", store.ErrTampered, after.Sequence+1)
		}
		want := t.seal(after.Seal, head.Sequence, value[len(head.Seal):])
		if !hmac.Equal(want[:], head.Seal[:]) {
			return after, false, fmt.Errorf("%w: the seal of record %d does not hold", store.ErrTampered, head.Sequence)
		}
		after, checked = head, checked+1
	}
	if end := t.Bucket(auditLog).Sequence(); end != after.Sequence {
		return after, false, fmt.Errorf("%w: %d records were written, the last that is there is %d", store.ErrTampered, end, after.Sequence)
	}
	if !t.isMarked(endKey, markEnd, after) {
		return after, false, fmt.Errorf("%w: record %d is not the last that was written", store.ErrTampered, after.Sequence)
	}
	return after, false, nil
}

// trimAudit forgets at most limit of the oldest records, once they are older
// than the retention, and marks the one that the rest hangs on. A log that was
// cut off in front stays as it is, for VerifyEvents to tell.
func (t *txn) trimAudit(limit int) (removed int, err error) {
	if swept, err := t.anchor(); err != nil || swept.Sequence > 0 && !t.isMarked(anchorKey, markSwept, swept) {
		return 0, err
	}
	oldest := t.now.Add(-t.auditRetention).Unix()
	var last store.EventHead
	var due [][]byte
	cursor := t.Bucket(auditLog).Cursor()
	for key, value := cursor.First(); key != nil && len(due) < limit && len(value) >= eventHead && writtenAt(value) < oldest; key, value = cursor.Next() {
		due = append(due, bytes.Clone(key))
		if last, err = headOf(key, value); err != nil {
			return 0, err
		}
	}
	for _, key := range due {
		if err := t.delete(auditLog, key); err != nil {
			return 0, err
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	return len(due), t.put(meta, anchorKey, t.marked(markSwept, last))
}
