package bolt

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// BenchmarkRotate is refresh at 1, 8 and 64 clients; "bare" is one small
// durable write each, what the disk asks for.
func BenchmarkRotate(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("bare/", writers), func(b *testing.B) {
			db := benchStore(b)
			parallel(b, writers, func(int) error {
				return db.write(b.Context(), func(t *txn) error {
					return t.put(meta, []byte("bench"), []byte(t.now.String()))
				})
			})
		})
		b.Run(fmt.Sprint("rotate/", writers), func(b *testing.B) {
			db := benchStore(b)
			tokens := make([]string, writers)
			for i := range tokens {
				tokens[i] = benchGrant(b, db)
			}
			parallel(b, writers, func(w int) error {
				next := store.Successor([]byte("key"), tokens[w])
				_, err := db.RotateRefresh(b.Context(), store.Rotation{
					Token: store.HashOf(tokens[w]), Successor: store.HashOf(next), ClientID: "app",
				})
				tokens[w] = next
				return err
			})
		})
	}
}

func parallel(b *testing.B, writers int, operation func(writer int) error) {
	b.Helper()
	b.ResetTimer()
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for done.Add(1) <= int64(b.N) {
				if err := operation(w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchStore(b *testing.B) *DB {
	b.Helper()
	db, err := Open(filepath.Join(b.TempDir(), "issuer.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if err := db.CreateClient(b.Context(), store.Client{ID: "app", Type: store.Public}); err != nil {
		b.Fatal(err)
	}
	if err := db.CreateUser(b.Context(), store.User{ID: "usr_1", Login: "alice"}); err != nil {
		b.Fatal(err)
	}
	return db
}

// benchGrant is the first refresh token of a new grant.
func benchGrant(b *testing.B, db *DB) string {
	b.Helper()
	code, token, later := store.HashOf(store.NewToken("ghc_")), store.NewToken(store.RefreshPrefix), time.Now().Add(time.Hour)
	if _, err := db.CreateCode(b.Context(), store.Code{Hash: code, ClientID: "app", UserID: "usr_1", ExpiresAt: later}); err != nil {
		b.Fatal(err)
	}
	if _, err := db.RedeemCode(b.Context(), store.Redemption{
		Code: code, ClientID: "app", GrantID: store.NewID("gnt_"),
		Decide: func(store.Code) (store.Terms, error) {
			return store.Terms{ExpiresAt: later, Refresh: store.HashOf(token)}, nil
		},
	}); err != nil {
		b.Fatal(err)
	}
	return token
}
