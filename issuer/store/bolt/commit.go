package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// maxGroup bounds how many writers share a transaction.
const maxGroup = 512

// verdict is an outcome for the caller that is no failure: whatever the
// operation wrote is committed.
type verdict struct{ error }

func (v verdict) Unwrap() error { return v.error }

// refuse makes an outcome of an error.
func refuse(err error) error { return verdict{err} }

// operation is one caller's share of a group.
type operation struct {
	apply func(*txn) error
	err   error
	panic any
	// turn tells the waiting caller to lead the next group (true) or that its
	// operation is done (false).
	turn chan bool
}

// committer groups writers: while one transaction is on its way to the disk,
// those that come meanwhile gather and share the next. Unlike bbolt's Batch it
// has no timer, so a lone writer waits for nothing but its own fsync; like
// there, an operation may be applied more than once, so it must leave no trace
// but in its transaction and in variables it sets anew each time.
type committer struct {
	run func([]*operation) (failed int, err error)

	mu      sync.Mutex
	queue   []*operation
	leading bool
}

// do applies an operation and returns once it is durable or refused. The
// operation's own panic surfaces here, in its caller.
func (c *committer) do(apply func(*txn) error) error {
	o := &operation{apply: apply, turn: make(chan bool, 1)}
	c.mu.Lock()
	c.queue = append(c.queue, o)
	lead := !c.leading
	c.leading = true
	c.mu.Unlock()
	if !lead {
		lead = <-o.turn
	}
	if lead {
		c.lead()
		<-o.turn
	}
	if o.panic != nil {
		panic(o.panic)
	}
	return o.err
}

// lead commits one group, the leader's own operation first in it, and hands
// over to whoever waits next.
func (c *committer) lead() {
	c.mu.Lock()
	size := min(len(c.queue), maxGroup)
	group := c.queue[:size:size]
	c.queue = c.queue[size:]
	c.mu.Unlock()

	c.commit(group)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading = len(c.queue) > 0; c.leading {
		c.queue[0].turn <- true
	}
}

// commit applies a group; an operation that fails is taken out and the rest
// applied again, without what it wrote.
func (c *committer) commit(group []*operation) {
	for len(group) > 0 {
		failed, err := c.run(group)
		if failed < 0 {
			for _, o := range group {
				o.finish(err)
			}
			return
		}
		group[failed].finish(err)
		rest := make([]*operation, 0, len(group)-1)
		group = append(append(rest, group[:failed]...), group[failed+1:]...)
	}
}

func (o *operation) finish(err error) {
	if err != nil {
		o.err = err
	}
	o.turn <- false
}

// applyTo runs the operation; verdicts are kept, failures returned.
func (o *operation) applyTo(t *txn) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			o.panic = fmt.Sprintf("%v\n%s", cause, debug.Stack())
			err = errors.New("the operation panicked")
		}
	}()
	o.err = o.apply(t)
	var v verdict
	if errors.As(o.err, &v) {
		return nil
	}
	return o.err
}

// runGroup applies a group in one transaction. failed is the index of the
// operation that made it fail, -1 where err concerns them all. A group that
// wrote nothing costs no fsync: bogus codes and tokens cost no disk.
func (db *DB) runGroup(group []*operation) (failed int, err error) {
	tx, err := db.bolt.Begin(true)
	if err != nil {
		return -1, fmt.Errorf("beginning a transaction: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	t := db.txn(tx)
	for i, o := range group {
		t.now = db.now().UTC()
		if err := o.applyTo(t); err != nil {
			return i, err
		}
	}
	if !t.dirty {
		return -1, nil
	}
	if err := tx.Commit(); err != nil {
		return -1, fmt.Errorf("committing: %w", err)
	}
	if t.logged {
		db.wake()
	}
	return -1, nil
}

// write applies an operation durably. Once begun it is carried through: its
// outcome must not be in doubt.
func (db *DB) write(ctx context.Context, apply func(*txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	origin := store.OriginOf(ctx)
	return db.committer.do(func(t *txn) error {
		t.origin = origin
		return apply(t)
	})
}

func (db *DB) txn(tx *bbolt.Tx) *txn {
	return &txn{Tx: tx, now: db.now().UTC(), retention: db.retention, auditRetention: db.auditRetention, auditKey: db.auditKey, eras: db.eras}
}

// read runs a function on a consistent view.
func (db *DB) read(ctx context.Context, look func(*txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return db.bolt.View(func(tx *bbolt.Tx) error {
		return look(db.txn(tx))
	})
}
