package password

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"golang.org/x/crypto/bcrypt"
)

// maxBcryptCost bounds what an imported hash may ask for: 14 takes about a
// second.
const maxBcryptCost = 14

// bcryptForm is the modular crypt form of bcrypt, as other systems export it.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

var errBcrypt = fmt.Errorf("it is no bcrypt hash of a cost of 4 to %d", maxBcryptCost)

func isBcrypt(hash string) bool { return bcryptForm.MatchString(hash) }

func checkBcrypt(hash string) error {
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > maxBcryptCost {
		return errBcrypt
	}
	return nil
}

// CheckHash says whether an imported hash can be verified: argon2id in PHC form
// within our bounds, or bcrypt.
func CheckHash(hash string) error {
	if isBcrypt(hash) {
		return checkBcrypt(hash)
	}
	if _, err := parse(hash); err != nil {
		return errors.New("a password hash is argon2id in PHC form ($argon2id$v=19$…), or bcrypt ($2b$…)")
	}
	return nil
}

// Upgrade is a hash with our present parameters of a password that was just
// verified against this one; empty: this one has them.
func (h *Hasher) Upgrade(ctx context.Context, hash, password string) (string, error) {
	if !outdated(hash) {
		return "", nil
	}
	return h.Hash(ctx, password)
}

// outdated tells whether a hash is bcrypt, or argon2id with other parameters
// than ours are now.
func outdated(hash string) bool {
	if isBcrypt(hash) {
		return true
	}
	parsed, err := parse(hash)
	return err == nil && parsed.params != current
}

// verifyBcrypt compares with an imported hash. The password is taken as it was
// typed, for that is what other systems hash; bcrypt knows its first 72 bytes
// only, and a longer one is nobody's.
func (h *Hasher) verifyBcrypt(ctx context.Context, hash, password string) (bool, error) {
	if err := checkBcrypt(hash); err != nil {
		return false, err
	}
	release, err := h.slot(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	err = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	return err == nil && len(password) <= 72, nil
}
