package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"gatehouse.dev/gatehouse/internal/whole"
	"gatehouse.dev/gatehouse/issuer/store"
)

// compactStep bounds the transactions of a compaction, in bytes.
const compactStep = 1 << 20

// Check tells whether a database file is sound: its pages, and its schema.
// Nobody may have it open for writing.
func Check(path string) error {
	file, err := inspect(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.View(func(tx *bbolt.Tx) error {
		var faults []error
		for fault := range tx.Check() {
			if len(faults) < 10 {
				faults = append(faults, fault)
			}
		}
		if len(faults) > 0 {
			return fmt.Errorf("database %q is damaged: restore a backup: %w", path, errors.Join(faults...))
		}
		version, err := schemaOf(tx)
		switch {
		case err != nil:
			return fmt.Errorf("database %q: %w", path, err)
		case version == 0:
			return fmt.Errorf("database %q is empty", path)
		case version > uint64(len(migrations)):
			return fmt.Errorf("database %q: %w: upgrade gatehouse", path, store.ErrNewerSchema)
		}
		return nil
	})
}

// inspect opens a file for reading alone.
func inspect(path string) (*bbolt.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	file, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening database %q: %w: stop it first", path, store.ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, err)
	}
	return file, nil
}

// Compact rewrites a database without the space that is free in it, and returns
// its size before and after. Nobody may have it open.
func Compact(path string) (before, after int64, err error) {
	source, err := inspect(path)
	if err != nil {
		return 0, 0, err
	}
	defer source.Close()
	fresh := path + ".compacting"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, fmt.Errorf("compacting: %w", err)
	}
	target, err := bbolt.Open(fresh, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return 0, 0, fmt.Errorf("compacting into %q: %w", fresh, err)
	}
	if err := errors.Join(bbolt.Compact(target, source, compactStep), target.Sync(), target.Close()); err != nil {
		return 0, 0, errors.Join(fmt.Errorf("compacting into %q: %w", fresh, err), os.Remove(fresh))
	}
	was, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	is, err := os.Stat(fresh)
	if err != nil {
		return 0, 0, err
	}
	return was.Size(), is.Size(), rename(fresh, path)
}

// Restore puts a backup in the place of a database, which is kept beside it as
// PATH.replaced, of which there may be none yet. The backup has forgotten what came after it, so nothing that
// was issued so far is good any more: the log begins a new epoch, every signing
// key is purged, which tells the gateways, and every user's and client's
// not-before is now.
func Restore(ctx context.Context, backup, path string, o Options) error {
	if err := Check(backup); err != nil {
		return err
	}
	kept := path + ".replaced"
	if _, err := os.Lstat(kept); err == nil && !sameFile(path, kept) {
		return fmt.Errorf("%s: %w, from an earlier restore: put it elsewhere, or remove it", kept, fs.ErrExist)
	}
	replaced, err := recordsOf(path)
	if err != nil {
		return err
	}
	fresh := path + ".restoring"
	if err := copyFile(backup, fresh); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	o.NewEpoch = true
	db, err := Open(fresh, o)
	if err != nil {
		return err
	}
	if err := errors.Join(db.write(ctx, func(t *txn) error { return t.endEverything(replaced) }), db.Close()); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	if err := keepReplaced(path, kept); err != nil {
		return fmt.Errorf("keeping the present database: %w", err)
	}
	return rename(fresh, path)
}

// rename puts a file in the place of another, and is not done before a power cut
// cannot undo it.
func rename(from, to string) error {
	return errors.Join(os.Rename(from, to), whole.SyncFolder(filepath.Dir(to)))
}

// keepReplaced gives a database a second name. It keeps its own until the
// restored one takes that: were there a moment without, an issuer that starts in
// it would begin with an empty database. A try that was interrupted in between left
// it with both.
func keepReplaced(path, kept string) error {
	if err := os.Link(path, kept); err != nil && !errors.Is(err, fs.ErrNotExist) && !sameFile(path, kept) {
		return err
	}
	return whole.SyncFolder(filepath.Dir(kept))
}

func sameFile(path, other string) bool {
	a, err := os.Stat(path)
	b, failed := os.Stat(other)
	return err == nil && failed == nil && os.SameFile(a, b)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Sync(), target.Close())
}

// recordsOf is the number of the last audit record of a database that nobody may
// have open; 0: there is none.
func recordsOf(path string) (last uint64, err error) {
	held, err := inspect(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer held.Close()
	return last, held.View(func(tx *bbolt.Tx) error {
		if log := tx.Bucket(auditLog); log != nil {
			last = log.Sequence()
		}
		return nil
	})
}

// endEverything ends all that was ever issued, and tells how far the audit log
// of the database that is replaced went: what is missing here is there.
func (t *txn) endEverything(replaced uint64) error {
	keys, err := t.keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.State == store.KeyPurged {
			continue
		}
		if err := t.purgeKey(k.ID); err != nil {
			return err
		}
	}
	everybody, err := rows[store.User](t, users)
	if err != nil {
		return err
	}
	for _, u := range everybody {
		u.NotBefore = max(t.now.Unix(), u.NotBefore+1)
		if err := putRow(t, users, []byte(u.ID), u); err != nil {
			return err
		}
	}
	applications, err := rows[store.Client](t, clients)
	if err != nil {
		return err
	}
	for _, c := range applications {
		c.NotBefore = max(t.now.Unix(), c.NotBefore+1)
		if err := putRow(t, clients, []byte(c.ID), c); err != nil {
			return err
		}
	}
	return t.audit(store.Event{Name: store.EventRestore, Detail: fmt.Sprintf("the records of what it replaced went up to %d", replaced)})
}
