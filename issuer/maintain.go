package issuer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// Restore puts a backup in the place of the database, while no issuer runs.
// Nothing that was issued before is good afterwards.
func (i *Issuer) Restore(ctx context.Context, backup string) error {
	kek, err := i.openKEK()
	if err != nil {
		return err
	}
	return bolt.Restore(admin.Offline(ctx), backup, string(i.config.Database), boltOptions(i.config, kek, i.deps.Now))
}

// Reseal brings all that is sealed with the key-encryption key under another
// one, while no issuer runs: all of it or nothing. Then it rewrites the file, for
// its free pages hold the private keys as they were sealed before. Done again, it
// does only that.
func (i *Issuer) Reseal(ctx context.Context, next *keys.KEK) error {
	if _, err := os.Stat(string(i.config.Database)); err != nil {
		return fmt.Errorf("opening issuer.database: %w", err)
	}
	present, err := i.openKEK()
	if err != nil {
		return err
	}
	sealing, err := keys.Reseal(present, next)
	if err != nil {
		return err
	}
	path := string(i.config.Database)
	err = i.sealedWith(ctx, present)
	if err == nil {
		err = bolt.Reseal(admin.Offline(ctx), path, boltOptions(i.config, present, i.deps.Now), sealing)
	}
	if errors.Is(err, store.ErrOtherKEK) && i.sealedWith(ctx, next) == nil {
		err = nil // by an earlier try
	}
	if err != nil {
		return err
	}
	if _, _, err := i.Compact(); err != nil {
		return fmt.Errorf("all is under the new key-encryption key, yet the file still holds the private keys under the old one: run this again: %w", err)
	}
	return nil
}

// sealedWith tells whether the database is sealed with a key-encryption key.
func (i *Issuer) sealedWith(ctx context.Context, kek *keys.KEK) error {
	db, err := openStore(i.config, kek, i.deps.Now)
	if err != nil {
		return err
	}
	return errors.Join(keys.Opens(ctx, db, kek), db.Close())
}

// Compact gives the space that is free in the database back to the disk, while
// no issuer runs. It returns the sizes before and after, in bytes.
func (i *Issuer) Compact() (before, after int64, err error) {
	return bolt.Compact(string(i.config.Database))
}

// Check tells whether the database is sound, while no issuer runs.
func (i *Issuer) Check() error { return bolt.Check(string(i.config.Database)) }

// Backup writes a copy of the database, while no issuer runs.
func (i *Issuer) Backup(ctx context.Context, w io.Writer) (err error) {
	kek, err := i.openKEK()
	if err != nil {
		return err
	}
	db, err := openStore(i.config, kek, i.deps.Now)
	if err != nil {
		return err
	}
	defer func() {
		if closing := db.Close(); closing != nil && err == nil {
			err = fmt.Errorf("closing issuer.database: %w", closing)
		}
	}()
	if err := keys.Opens(ctx, db, kek); err != nil {
		return err
	}
	if err := db.RecordEvents(admin.Offline(ctx), []store.Event{{Name: store.EventBackup}}); err != nil {
		return err
	}
	return db.Backup(ctx, w)
}
