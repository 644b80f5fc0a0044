package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// maxTokenLife is also what a token gets.
const maxTokenLife = 10 * time.Minute

// tokenRow is a join token, under the hash of its secret.
type tokenRow struct {
	ID      string    `json:"id"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	Used    bool      `json:"used"`
}

// refusal is why somebody gets nothing: for our log, not for the peer.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// hashOf stands for a secret of 256 random bits, which needs no slow hash.
func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// newToken makes a token for an id. Only the hash of its secret is kept.
func (s *store) newToken(id ID, life time.Duration) (secret string, expires time.Time, err error) {
	secret = base64.RawURLEncoding.EncodeToString(random(32))
	now := s.now()
	row := tokenRow{ID: id.String(), Made: now, Expires: now.Add(life)}
	err = s.bolt.Update(func(tx *bbolt.Tx) error {
		if err := admitted(tx, id.String()); err != nil {
			return err
		}
		return put(tx, tokensBucket, hashOf(secret), row)
	})
	return secret, row.Expires, err
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// token is the id that a secret is good for, now.
func (s *store) token(secret string) (id string, err error) {
	err = s.bolt.View(func(tx *bbolt.Tx) error {
		id, err = s.usable(tx, secret)
		return err
	})
	return id, err
}

func (s *store) usable(tx *bbolt.Tx, secret string) (id string, err error) {
	row, found, err := get[tokenRow](tx, tokensBucket, hashOf(secret))
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", refuse("there is no such join token")
	case row.Used:
		return "", refuse("the join token for %s was used before: if its owner did not do that, somebody else has its identity; revoke it", row.ID)
	case !s.now().Before(row.Expires):
		return "", refuse("the join token for %s expired at %s", row.ID, row.Expires.Format(time.RFC3339))
	}
	return row.ID, unbarred(tx, row.ID, "join token", row.Made)
}

// enrol uses a token up and records the certificate that it bought, or does
// neither.
func (s *store) enrol(secret string, c issuedRow) error {
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		id, err := s.usable(tx, secret)
		if err != nil {
			return err
		}
		if id != c.ID {
			return refuse("the join token is for %s, not %s", id, c.ID)
		}
		key := hashOf(secret)
		row, _, err := get[tokenRow](tx, tokensBucket, key)
		if err != nil {
			return err
		}
		row.Used = true
		if err := put(tx, tokensBucket, key, row); err != nil {
			return err
		}
		return record(tx, c)
	})
}
