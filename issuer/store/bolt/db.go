// Package bolt is the issuer's store in one bbolt file: the default, for one
// process at a time.
//
// Writers that come together share one transaction and so one fsync (commit.go).
// Rows live in one bucket per noun (buckets.go); what expires is also in one
// expiry index, ordered by time, so that sweeping costs what it removes.
package bolt

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"gatehouse.dev/gatehouse/issuer/store"
)

// DefaultRetention covers the longest access-token life, 10 minutes, and
// skewed clocks.
const DefaultRetention = 15 * time.Minute

// DefaultAuditRetention is 90 days.
const DefaultAuditRetention = 90 * 24 * time.Hour

const (
	// lockWait is how long another process may take to let go of the file.
	lockWait = time.Second
	// initialMmap is address space, not memory: the file can grow to it
	// without waiting for readers to finish.
	initialMmap = 256 << 20
)

// Options are how a database is used; the zero value is usable.
type Options struct {
	// Now is the clock; nil: the machine's.
	Now func() time.Time
	// Retention is how long after its issue an access token may be alive
	// anywhere, skew included: revocations are kept that long. Zero:
	// DefaultRetention.
	Retention time.Duration
	// AuditRetention is how long audit records are kept. Zero:
	// DefaultAuditRetention.
	AuditRetention time.Duration
	// AuditKey seals the audit log: whoever changes the file without it cannot
	// make the seals fit.
	AuditKey []byte
	// OpenAuditKey opens the keys of records from before the key-encryption key
	// was another one (Reseal).
	OpenAuditKey func(sealed []byte) ([]byte, error)
	// NewEpoch gives the revocation log a new name, after a restore: the copy
	// has forgotten what came after it.
	NewEpoch bool
}

// DB is an open database. It implements store.Store.
type DB struct {
	bolt           *bbolt.DB
	now            func() time.Time
	retention      time.Duration
	auditRetention time.Duration
	auditKey       []byte
	eras           []era
	epoch          string
	committer      committer

	mu      sync.Mutex
	changed chan struct{}
}

var _ store.Store = (*DB)(nil)

// Open opens the database file at path, makes it (0600) where it is missing,
// and brings its schema up to date. ErrLocked: another process holds it.
// ErrNewerSchema: a newer version wrote it. ErrOtherKEK: its audit log is sealed
// with another key.
func Open(path string, o Options) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of database %q: %w", path, err)
	}
	file, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMmap,
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening database %q: %w: stop it, or administer it through its admin socket", path, store.ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, err)
	}
	db, err := prepare(file, path, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening database %q: %w", path, err), file.Close())
	}
	return db, nil
}

func prepare(file *bbolt.DB, path string, o Options) (*DB, error) {
	// A file that was copied here may have come with a lax mode.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	db := &DB{
		bolt: file, now: o.Now, retention: o.Retention, auditRetention: o.AuditRetention, auditKey: o.AuditKey,
		changed: make(chan struct{}),
	}
	if db.now == nil {
		db.now = time.Now
	}
	if db.retention == 0 {
		db.retention = DefaultRetention
	}
	if db.auditRetention == 0 {
		db.auditRetention = DefaultAuditRetention
	}
	db.committer.run = db.runGroup
	if err := migrate(file, o.AuditKey); err != nil {
		return nil, err
	}
	var err error
	if db.eras, err = readEras(file, o.OpenAuditKey); err != nil {
		return nil, err
	}
	if err := file.View(func(tx *bbolt.Tx) error { return db.txn(tx).goesWithKey() }); err != nil {
		return nil, err
	}
	if o.NewEpoch {
		if err := file.Update(func(tx *bbolt.Tx) error { return putEpoch(tx) }); err != nil {
			return nil, fmt.Errorf("renewing the epoch: %w", err)
		}
	}
	return db, file.View(func(tx *bbolt.Tx) error {
		db.epoch = string(tx.Bucket(meta).Get(epochKey))
		return nil
	})
}

// migrations lead from one schema version to the next: the first makes an
// empty file version 1. A landed one never changes.
var migrations = []func(*bbolt.Tx) error{createV1, addV2, addV3, addV4, addV5, addV6}

func migrate(file *bbolt.DB, auditKey []byte) error {
	return file.Update(func(tx *bbolt.Tx) error {
		version, err := schemaOf(tx)
		if err != nil {
			return err
		}
		if version > uint64(len(migrations)) {
			return fmt.Errorf("%w: its schema is %d, this program knows up to %d: upgrade gatehouse", store.ErrNewerSchema, version, len(migrations))
		}
		for ; version < uint64(len(migrations)); version++ {
			err := migrations[version](tx)
			if version+1 == sealedEnds {
				// With another key the marks would be wrong for good.
				t := &txn{Tx: tx, auditKey: auditKey}
				if err = errors.Join(err, t.goesWithKey()); err == nil {
					err = t.sealEnds()
				}
			}
			if err != nil {
				return fmt.Errorf("migrating from schema %d: %w", version, err)
			}
		}
		return tx.Bucket(meta).Put(schemaKey, binary.BigEndian.AppendUint64(nil, version))
	})
}

// schemaOf is the file's schema version; 0: it is empty.
func schemaOf(tx *bbolt.Tx) (uint64, error) {
	bucket := tx.Bucket(meta)
	if bucket == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return 0, errors.New("it is a bbolt file of another program: choose another path")
		}
		return 0, nil
	}
	value := bucket.Get(schemaKey)
	if len(value) != 8 {
		return 0, errors.New("its schema version is damaged: restore a backup")
	}
	return binary.BigEndian.Uint64(value), nil
}

func createV1(tx *bbolt.Tx) error { return errors.Join(addBuckets(tx, bucketsV1), putEpoch(tx)) }

func addV2(tx *bbolt.Tx) error { return addBuckets(tx, bucketsV2) }

func addV5(tx *bbolt.Tx) error { return addBuckets(tx, bucketsV5) }

func addV3(tx *bbolt.Tx) error { return addBuckets(tx, bucketsV3) }

// sealedEnds is the schema in which both ends of the audit log are sealed, which
// takes its key.
const sealedEnds = 6

func addV6(*bbolt.Tx) error { return nil }

func addBuckets(tx *bbolt.Tx, names [][]byte) error {
	for _, name := range names {
		if _, err := tx.CreateBucket(name); err != nil {
			return fmt.Errorf("creating bucket %s: %w", name, err)
		}
	}
	return nil
}

// addV4 adds groups, registration, the audit log, and the index of people's
// sessions, which those that are there already are entered into.
func addV4(tx *bbolt.Tx) error {
	if err := addBuckets(tx, bucketsV4); err != nil {
		return err
	}
	return tx.Bucket(sessions).ForEach(func(id, value []byte) error {
		s, err := decode[store.Session](sessions, value)
		if err != nil {
			return err
		}
		return tx.Bucket(userSessions).Put(pair(s.UserID, string(id)), nil)
	})
}

func putEpoch(tx *bbolt.Tx) error { return tx.Bucket(meta).Put(epochKey, []byte(rand.Text())) }

// Close waits for transactions under way and lets go of the file.
func (db *DB) Close() error {
	if err := db.bolt.Close(); err != nil {
		return fmt.Errorf("closing the database: %w", err)
	}
	return nil
}

// Backup implements store.Store.
func (db *DB) Backup(_ context.Context, w io.Writer) error {
	return db.bolt.View(func(tx *bbolt.Tx) error {
		if _, err := tx.WriteTo(w); err != nil {
			return fmt.Errorf("copying the database: %w", err)
		}
		return nil
	})
}
