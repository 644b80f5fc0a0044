package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/internal/serve"
)

// bare answers every POST with a signature, and on /refresh with a commit as
// well: what no issuer that signs with ES256 and keeps refresh tokens in bbolt
// can do without.
type bare struct {
	key *ecdsa.PrivateKey
	db  *bbolt.DB
}

var tokensBucket = []byte("tokens")

func serveBare(ctx context.Context, address string) error {
	dir, err := os.MkdirTemp("", "bare")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bare{}
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	if b.db, err = bbolt.Open(filepath.Join(dir, "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType}); err != nil {
		return fmt.Errorf("opening a database: %w", err)
	}
	defer b.db.Close()
	b.db.MaxBatchDelay = time.Millisecond // writers that come together share a commit
	if err := b.db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(tokensBucket); return err }); err != nil {
		return fmt.Errorf("making a bucket: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return serve.HTTP(ctx, listener, b)
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "no form", http.StatusBadRequest)
		return
	}
	if r.URL.Path == "/refresh" {
		if err := b.commit(r.PostForm.Get("refresh_token")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	sum := sha256.Sum256([]byte(r.PostForm.Encode()))
	signature, err := ecdsa.SignASN1(rand.Reader, b.key, sum[:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q}`, base64.RawURLEncoding.EncodeToString(signature), rand.Text())
}

// commit replaces a token by a new one.
func (b *bare) commit(token string) error {
	old, fresh := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(rand.Text()))
	return b.db.Batch(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(tokensBucket)
		if err := bucket.Put(old[:], []byte("used")); err != nil {
			return err
		}
		return bucket.Put(fresh[:], old[:])
	})
}
