package token

import "fmt"

// CheckObject tells whether a text of at most so many bytes is one JSON object
// that every reader reads alike (RFC 7493 §2): valid Unicode, each member once
// in its object, numbers that fit a double, no more than 16 levels and 4096
// values, nothing behind it. The error says where, never what.
func CheckObject(text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("the JSON text has more than %d bytes", most)
	}
	return scanObject(text, func(s *scanner, _ string) error { return s.skip() })
}
