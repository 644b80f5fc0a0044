// Package password hashes people's passwords with argon2id (RFC 9106) and says
// which passwords are accepted.
//
// Hashing is slow and takes memory on purpose, so only so many run at once; the
// others wait, as long as their callers do. Verifying costs the same whether
// there is such a user or not.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// params are argon2id's; what is hashed anew gets these, the OWASP minimum for
// one lane: 19 MiB, 2 passes.
type params struct {
	memory uint32 // KiB
	time   uint32
	lanes  uint8
}

var current = params{memory: 19 << 10, time: 2, lanes: 1}

const (
	saltSize = 16
	hashSize = 32
)

// Hasher hashes and verifies, so many at a time. It is safe for parallel use.
type Hasher struct {
	slots chan struct{}
	// decoy is what unknown users' passwords are verified against.
	decoy hash
	// derive is argon2id.
	derive func(password, salt []byte, p params) []byte
}

func derive(password, salt []byte, p params) []byte {
	return argon2.IDKey(password, salt, p.time, p.memory, p.lanes, hashSize)
}

// NewHasher makes a Hasher that runs at most parallel hashes at once, each of
// which takes 19 MiB and some 40 ms of a core.
func NewHasher(parallel int) (*Hasher, error) {
	if parallel < 1 {
		return nil, fmt.Errorf("making a password hasher: at least 1 hash must run at once, not %d", parallel)
	}
	decoy := hash{params: current, salt: make([]byte, saltSize), sum: make([]byte, hashSize)}
	rand.Read(decoy.salt)
	rand.Read(decoy.sum)
	return &Hasher{slots: make(chan struct{}, parallel), decoy: decoy, derive: derive}, nil
}

// Hash is a password's hash as a PHC string. The password must have passed
// Check. The error is the context's, or Check's.
func (h *Hasher) Hash(ctx context.Context, password string) (phc string, err error) {
	prepared, err := prepare(password)
	if err != nil {
		return "", err
	}
	fresh := hash{params: current, salt: make([]byte, saltSize)}
	rand.Read(fresh.salt)
	if fresh.sum, err = h.run(ctx, fresh, prepared); err != nil {
		return "", err
	}
	return fresh.String(), nil
}

// Verify tells whether a password is the one of a hash. An empty hash, for a
// user that does not exist or has none, takes as long and is false. An error
// is the context's, or says that the hash is damaged.
func (h *Hasher) Verify(ctx context.Context, phc, password string) (bool, error) {
	if isBcrypt(phc) {
		return h.verifyBcrypt(ctx, phc, password)
	}
	want, known := h.decoy, phc != ""
	if known {
		var err error
		if want, err = parse(phc); err != nil {
			return false, fmt.Errorf("reading a password hash: %w", err)
		}
	}
	prepared, err := prepare(password)
	if err != nil {
		// It is nobody's, but how soon we say so must not depend on whose.
		prepared, known = nil, false
	}
	got, err := h.run(ctx, want, prepared)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want.sum) == 1 && known, nil
}

// run computes a hash with the parameters and salt of another, once there is a
// place.
func (h *Hasher) run(ctx context.Context, like hash, password []byte) ([]byte, error) {
	release, err := h.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return h.derive(password, like.salt, like.params), nil
}

// slot waits for a place.
func (h *Hasher) slot(ctx context.Context) (release func(), err error) {
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to hash a password: %w", ctx.Err())
	}
}
