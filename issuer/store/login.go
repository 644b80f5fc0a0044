package store

import (
	"errors"
	"fmt"

	"golang.org/x/text/secure/precis"
)

// Login is what a person types to say who they are, in the one form that is
// compared: case-mapped, width-mapped, NFC (RFC 8265 UsernameCaseMapped).
type Login string

// maxLogin bounds a login in bytes: room for an e-mail address (RFC 5321
// §4.5.3.1).
const maxLogin = 254

var errUnstable = errors.New("its normal form is not stable")

// ParseLogin brings what a person typed into the form that is compared.
func ParseLogin(typed string) (Login, error) {
	if typed == "" || len(typed) > maxLogin {
		return "", fmt.Errorf("a login has 1 to %d bytes, not %d", maxLogin, len(typed))
	}
	login, err := precis.UsernameCaseMapped.String(typed)
	if err == nil {
		// Mapping is not idempotent for every string (RFC 8265 §3.1): one that
		// maps on has no one form to be compared in.
		var again string
		if again, err = precis.UsernameCaseMapped.String(login); err == nil && again != login {
			err = errUnstable
		}
	}
	if err != nil {
		return "", fmt.Errorf("the login %q has a character that logins cannot have: use letters, digits and ASCII punctuation without spaces", typed)
	}
	if len(login) > maxLogin {
		return "", fmt.Errorf("a login has 1 to %d bytes, not %d", maxLogin, len(login))
	}
	return Login(login), nil
}
