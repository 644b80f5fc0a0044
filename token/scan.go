package token

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// Bounds on a JSON text. A token's reader needs little, and what nobody needs
// is only good for making readers work.
const (
	maxDepth   = 16   // objects and arrays inside one another
	maxMembers = 128  // of one object
	maxValues  = 4096 // of the whole text
)

// scanner walks a JSON text (RFC 8259) once, strictly: member names are
// case-sensitive and stand once in their object after unescaping (RFC 7515 §4,
// RFC 7519 §4), text is valid Unicode without lone surrogates (RFC 7493 §2.1),
// numbers fit a double (RFC 7493 §2.2), nothing follows the one value. Errors
// say where, never what.
type scanner struct {
	in     string
	at     int
	depth  int
	values int
	names  []string // members seen of the objects that are open
}

// scanObject walks a text that is one object. The function gets each member's
// name and must read its value from the scanner.
func scanObject(in string, member func(s *scanner, name string) error) error {
	if !utf8.ValidString(in) {
		return fmt.Errorf("the JSON text is not UTF-8")
	}
	s := &scanner{in: in}
	if err := s.object(member); err != nil {
		return err
	}
	if s.peek() != 0 || s.at < len(s.in) {
		return s.fault("something follows the object")
	}
	return nil
}

func (s *scanner) fault(what string) error {
	return fmt.Errorf("%s (JSON, byte %d)", what, s.at)
}

// peek skips white space (RFC 8259 §2) and returns the next byte; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take skips white space and the byte c, if that comes next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// open enters an object or an array.
func (s *scanner) open(c byte, what string) error {
	if !s.take(c) {
		return s.fault(what)
	}
	if s.depth++; s.depth > maxDepth {
		return s.fault(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	return nil
}

// count notes one more value.
func (s *scanner) count() error {
	if s.values++; s.values > maxValues {
		return s.fault(fmt.Sprintf("more than %d values", maxValues))
	}
	return nil
}

func (s *scanner) object(member func(s *scanner, name string) error) error {
	if err := s.open('{', "not an object"); err != nil {
		return err
	}
	first := len(s.names)
	for more := !s.take('}'); more; {
		if err := s.member(first, member); err != nil {
			return err
		}
		if more = s.take(','); !more && !s.take('}') {
			return s.fault("neither a comma nor the object's end")
		}
	}
	s.names = s.names[:first]
	s.depth--
	return nil
}

// member reads one name and has its value read; names[first:] are the object's.
func (s *scanner) member(first int, member func(s *scanner, name string) error) error {
	name, err := s.text()
	if err != nil {
		return err
	}
	if slices.Contains(s.names[first:], name) {
		return s.fault("a member stands twice")
	}
	if len(s.names)-first >= maxMembers {
		return s.fault(fmt.Sprintf("more than %d members", maxMembers))
	}
	s.names = append(s.names, name)
	if !s.take(':') {
		return s.fault("no colon after a member's name")
	}
	if err := s.count(); err != nil {
		return err
	}
	return member(s, name)
}

// array has each item read by the function.
func (s *scanner) array(item func(s *scanner) error) error {
	if err := s.open('[', "not an array"); err != nil {
		return err
	}
	for more := !s.take(']'); more; {
		if err := s.count(); err != nil {
			return err
		}
		if err := item(s); err != nil {
			return err
		}
		if more = s.take(','); !more && !s.take(']') {
			return s.fault("neither a comma nor the array's end")
		}
	}
	s.depth--
	return nil
}

// texts reads an array of at most limit strings.
func (s *scanner) texts(limit int) (texts []string, err error) {
	err = s.array(func(s *scanner) error {
		text, err := s.text()
		if err == nil && len(texts) >= limit {
			err = s.fault(fmt.Sprintf("more than %d strings", limit))
		}
		texts = append(texts, text)
		return err
	})
	return texts, err
}

// skip reads a value of any kind that nobody asked for; it must be as strict
// as the rest.
func (s *scanner) skip() (err error) {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func(s *scanner, _ string) error { return s.skip() })
	case c == '[':
		return s.array((*scanner).skip)
	case c == '"':
		_, err = s.text()
	case c == '-' || '0' <= c && c <= '9':
		_, err = s.number()
	default:
		return s.literal()
	}
	return err
}

func (s *scanner) literal() error {
	for _, word := range [...]string{"true", "false", "null"} {
		if len(s.in)-s.at >= len(word) && s.in[s.at:s.at+len(word)] == word {
			s.at += len(word)
			return nil
		}
	}
	return s.fault("not a value")
}
