package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// ErrLocked says that another process holds the CA's database.
var ErrLocked = errors.New("another process holds it")

// lockWait is how long another process may take to let go of the file.
const lockWait = time.Second

// The buckets; each row is JSON.
var (
	tokensBucket    = []byte("tokens")    // SHA-256 of the secret → tokenRow
	issuedBucket    = []byte("issued")    // SHA-256 of the certificate → issuedRow
	workloadsBucket = []byte("workloads") // SPIFFE id → workloadRow
	keysBucket      = []byte("keys")      // replica → keysRow
	watchersBucket  = []byte("watchers")  // SPIFFE id that watches → empty
	metaBucket      = []byte("meta")
)

// store is what the CA must not forget, in one bbolt file. Each method is one
// transaction, on the disk before it returns.
type store struct {
	bolt *bbolt.DB
	now  func() time.Time
}

// openStore opens the file, made 0600 where it is missing.
func openStore(path string, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of %s: %w", path, err)
	}
	file, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening %s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	s := &store{bolt: file, now: now}
	err = file.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{tokensBucket, issuedBucket, workloadsBucket, keysBucket, watchersBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("preparing %s: %w", path, err)
	}
	return s, nil
}

func (s *store) close() error { return s.bolt.Close() }

// get reads a row; false where there is none. A row that cannot be read is an
// error, never an absent one: what it would have forbidden is not known.
func get[T any](tx *bbolt.Tx, bucket, key []byte) (row T, found bool, err error) {
	data := tx.Bucket(bucket).Get(key)
	if data == nil {
		return row, false, nil
	}
	if err := json.Unmarshal(data, &row); err != nil {
		return row, false, fmt.Errorf("reading %s: %w", bucket, err)
	}
	return row, true, nil
}

func put(tx *bbolt.Tx, bucket, key []byte, row any) error {
	data, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encoding a row of %s: %w", bucket, err)
	}
	return tx.Bucket(bucket).Put(key, data)
}

// each calls visit for all rows of a bucket.
func each[T any](tx *bbolt.Tx, bucket []byte, visit func(key []byte, row T) error) error {
	return tx.Bucket(bucket).ForEach(func(key, data []byte) error {
		var row T
		if err := json.Unmarshal(data, &row); err != nil {
			return fmt.Errorf("reading %s: %w", bucket, err)
		}
		return visit(key, row)
	})
}

// forget deletes the rows that gone tells of. bbolt forbids deleting in ForEach.
func forget[T any](tx *bbolt.Tx, bucket []byte, gone func(T) bool) error {
	var keys [][]byte
	err := each(tx, bucket, func(key []byte, row T) error {
		if gone(row) {
			keys = append(keys, key)
		}
		return nil
	})
	for _, key := range keys {
		err = errors.Join(err, tx.Bucket(bucket).Delete(key))
	}
	return err
}

// sweep forgets what nobody can use any more: tokens an hour after their end,
// so that a late use is still told from an invention, and certificates that can
// no longer be renewed.
func (s *store) sweep() error {
	now := s.now()
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			forget(tx, tokensBucket, func(t tokenRow) bool { return now.After(t.Expires.Add(time.Hour)) }),
			forget(tx, issuedBucket, func(i issuedRow) bool { return now.After(i.NotAfter.Add(renewWithin)) }),
		)
	})
}
