package store

import (
	"errors"
	"fmt"
)

// What callers branch on; backends wrap them with what they concern.
var (
	// ErrNotFound: there is no such record, or it has ended.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it exists already.
	ErrConflict = errors.New("exists already")
	// ErrExpired: it came too late.
	ErrExpired = errors.New("expired")
	// ErrConsumed: a code or refresh token was used again.
	ErrConsumed = errors.New("used already")
	// ErrReplayed is the ErrConsumed of what was used again before: that was
	// acted on and recorded then, and nothing is written any more.
	ErrReplayed = fmt.Errorf("once more: %w", ErrConsumed)
	// ErrRevoked: it was revoked.
	ErrRevoked = errors.New("revoked")
	// ErrTrimmed: the log does not reach back that far.
	ErrTrimmed = errors.New("the log does not reach back that far")
	// ErrLocked: another process holds the database.
	ErrLocked = errors.New("another process holds the database")
	// ErrTampered: the audit log is not as it was written.
	ErrTampered = errors.New("the audit log was tampered with")
	// ErrOtherKEK: something was sealed with another key-encryption key.
	ErrOtherKEK = errors.New("the key-encryption key is not the one it was sealed with: restore the file that issuer.key_encryption_key names from the backup that belongs to the database, or give that key in GATEHOUSE_KEY_ENCRYPTION_KEY")
	// ErrNewerSchema: a newer version wrote the database.
	ErrNewerSchema = errors.New("the database was written by a newer version")
)
