package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// writers are how many families are refreshed at once.
const writers = 64

// benchDatabase refreshes until so many refresh tokens were issued, and looks
// at the file, then again once they have expired and were swept.
func benchDatabase(ctx context.Context, o options) (string, []figure, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "issuer.db")
	now := time.Now()
	db, err := bolt.Open(path, bolt.Options{Now: func() time.Time { return now }})
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	families, err := grantFamilies(ctx, db, writers)
	if err != nil {
		return "", nil, err
	}
	started := time.Now()
	if err := refreshAll(ctx, db, families, o.million/writers); err != nil {
		return "", nil, err
	}
	took := time.Since(started)
	size, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	now = now.Add(721 * time.Hour)
	swept, started := 0, time.Now()
	for more := true; more; {
		var removed int
		if removed, more, err = db.Sweep(ctx, 500); err != nil {
			return "", nil, err
		}
		swept += removed
	}
	return fmt.Sprintf(`## Database

%d refresh tokens of %d grants, all still alive: %.0f MiB in bbolt, %.0f bytes each,
%.0f commits of a refresh per second from %d writers. Sweeping the %d records once
they have expired takes %.1f s, in steps of 500; the pages are used again. Tokens
of client_credentials leave nothing behind.
`, o.million, writers, float64(size.Size())/(1<<20), float64(size.Size())/float64(o.million),
		float64(o.million)/took.Seconds(), writers, swept, time.Since(started).Seconds()), nil, nil
}

// refreshAll replaces each family's token so many times.
func refreshAll(ctx context.Context, db store.Store, families []string, times int) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, token := range families {
		group.Go(func() error {
			for range times {
				next := store.Successor([]byte("the key of the bench"), token)
				if _, err := db.RotateRefresh(ctx, store.Rotation{Token: store.HashOf(token), Successor: store.HashOf(next), ClientID: benchClient}); err != nil {
					return err
				}
				token = next
			}
			return nil
		})
	}
	return group.Wait()
}
