package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/internal/whole"
)

const kekSize = 32

// KEK is the key-encryption key: the one secret outside the database. Whoever
// has it and a copy of the database can sign tokens; without it the database
// cannot sign.
type KEK struct{ secret []byte }

// EnsureKEK makes the key-encryption key's file, 0600, where there is none. It
// returns once no power cut can take the file away again, also where it was made by
// a try that did not come that far: what is sealed with it would be lost.
func EnsureKEK(path string) (created bool, err error) {
	folder := filepath.Dir(path)
	if _, err := os.Lstat(path); err == nil {
		return false, keepName(folder, path)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return false, fmt.Errorf("making the folder of the key-encryption key: %w", err)
	}
	draft, err := os.CreateTemp(folder, ".kek")
	if err != nil {
		return false, fmt.Errorf("making key-encryption key %q: %w", path, err)
	}
	defer os.Remove(draft.Name())
	secret := make([]byte, kekSize)
	rand.Read(secret)
	_, err = draft.WriteString(base64.StdEncoding.EncodeToString(secret) + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return false, fmt.Errorf("making key-encryption key %q: %w", path, err)
	}
	// A link, not a rename: it never replaces a key that somebody else made
	// meanwhile, and is there whole or not at all.
	if err := os.Link(draft.Name(), path); errors.Is(err, fs.ErrExist) {
		return false, keepName(folder, path)
	} else if err != nil {
		return false, fmt.Errorf("making key-encryption key %q: %w", path, err)
	}
	return true, keepName(folder, path)
}

// keepName brings a key's name to the disk. A folder that may not be read is not
// one that a key was made in: it came from elsewhere.
func keepName(folder, path string) error {
	if err := whole.SyncFolder(folder); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("keeping key-encryption key %q: %w", path, err)
	}
	return nil
}

// LoadKEK reads the key-encryption key's file.
func LoadKEK(path string) (*KEK, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key-encryption key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the key-encryption key: %q has mode %v: others can read it; run chmod 600 %s", path, mode, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key-encryption key: %w", err)
	}
	secret, err := decodeKEK(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading the key-encryption key: %q does not hold %d bytes in base64: restore it from a backup", path, kekSize)
	}
	return &KEK{secret: secret}, nil
}

// KEKVariable is the environment variable that may hold the key-encryption key,
// in the form of its file.
const KEKVariable = "GATEHOUSE_KEY_ENCRYPTION_KEY"

// NewKEKVariable is the one that may hold the key that is to take its place.
const NewKEKVariable = "GATEHOUSE_NEW_KEY_ENCRYPTION_KEY"

// TakeKEK reads a key-encryption key from a variable of the environment and
// takes it out of there, so that no child process gets it; nil: it is not there.
func TakeKEK(variable string) (*KEK, error) {
	text, found := os.LookupEnv(variable)
	if !found {
		return nil, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, fmt.Errorf("taking %s out of the environment: %w", variable, err)
	}
	secret, err := decodeKEK(text)
	if err != nil {
		return nil, fmt.Errorf("reading the key-encryption key: %s does not hold %d bytes in base64", variable, kekSize)
	}
	return &KEK{secret: secret}, nil
}

// decodeKEK never says what it read.
func decodeKEK(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil || len(secret) != kekSize {
		return nil, errors.New("not a key")
	}
	return secret, nil
}

// Derive is a 32-byte key for one purpose; another purpose gets an unrelated
// one (RFC 5869).
func (k *KEK) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, k.secret, nil, "gatehouse "+purpose, kekSize)
	if err != nil {
		panic(err) // only for keys longer than 8160 bytes
	}
	return key
}
