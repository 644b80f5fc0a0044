package issuer

import (
	"context"
	"fmt"
	"io"

	"gatehouse.dev/gatehouse/issuer/admin"
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
	return bolt.Restore(admin.Offline(ctx), backup, string(i.config.Database), bolt.Options{
		Now: i.deps.Now, AuditRetention: i.config.AuditRetention, AuditKey: kek.Derive("audit log"),
	})
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
	if err := db.RecordEvents(admin.Offline(ctx), []store.Event{{Name: store.EventBackup}}); err != nil {
		return err
	}
	return db.Backup(ctx, w)
}
