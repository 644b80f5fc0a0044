package password

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

const (
	// MinLength is how many characters a password has at least.
	MinLength = 12
	// MaxBytes bounds what is hashed.
	MaxBytes = 1024
	// minDistinct keeps out "aaaaaaaaaaaa".
	minDistinct = 5
)

// Check says whether a password may be chosen: long enough, not one thing
// repeated. No rules on kinds of characters (NIST SP 800-63B §5.1.1.2).
func Check(password string) error {
	prepared, err := prepare(password)
	if err != nil {
		return err
	}
	if n := utf8.RuneCount(prepared); n < MinLength {
		return fmt.Errorf("a password has at least %d characters, this one has %d: a few random words are easy to remember", MinLength, n)
	}
	distinct := map[rune]bool{}
	for _, r := range string(prepared) {
		distinct[r] = true
	}
	if len(distinct) < minDistinct {
		return fmt.Errorf("a password has at least %d different characters, this one has %d", minDistinct, len(distinct))
	}
	return nil
}

var errCharacters = errors.New("a password has letters, digits, symbols and spaces, and no control characters")

// prepare brings a password into the form that is hashed, so that it is the
// same however a keyboard composes it (RFC 8265 OpaqueString).
func prepare(password string) ([]byte, error) {
	if len(password) > MaxBytes {
		return nil, fmt.Errorf("a password has at most %d bytes, this one has %d", MaxBytes, len(password))
	}
	if !utf8.ValidString(password) {
		return nil, errCharacters
	}
	prepared, err := precis.OpaqueString.Bytes([]byte(password))
	if err != nil {
		return nil, errCharacters
	}
	return prepared, nil
}
