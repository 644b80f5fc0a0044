package token

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string. Without escapes it is a part of the input and costs
// nothing.
func (s *scanner) text() (string, error) {
	if !s.take('"') {
		return "", s.fault("not a string")
	}
	start := s.at
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			return s.in[start : s.at-1], nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.fault("a control character in a string")
		}
	}
	return "", s.fault("a string without end")
}

// escaped reads the rest of a string that has an escape at s.at.
func (s *scanner) escaped(start int) (string, error) {
	var out strings.Builder
	out.WriteString(s.in[start:s.at])
	for s.at < len(s.in) {
		c := s.in[s.at]
		s.at++
		switch {
		case c == '"':
			return out.String(), nil
		case c < ' ':
			return "", s.fault("a control character in a string")
		case c != '\\':
			out.WriteByte(c)
		default:
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out.WriteRune(r)
		}
	}
	return "", s.fault("a string without end")
}

// escape reads what follows a backslash (RFC 8259 §7).
func (s *scanner) escape() (rune, error) {
	if s.at >= len(s.in) {
		return 0, s.fault("a string without end")
	}
	c := s.in[s.at]
	s.at++
	if c == 'u' {
		return s.unicode()
	}
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	i := strings.IndexByte(from, c)
	if i < 0 {
		return 0, s.fault("an unknown escape")
	}
	return rune(to[i]), nil
}

// unicode reads what follows \u, both halves of a surrogate pair.
func (s *scanner) unicode() (rune, error) {
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !strings.HasPrefix(s.in[s.at:], `\u`) {
		return 0, s.fault("half a surrogate pair")
	}
	s.at += 2
	low, err := s.hex4()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, s.fault("half a surrogate pair")
	}
	return r, nil
}

func (s *scanner) hex4() (rune, error) {
	if len(s.in)-s.at < 4 {
		return 0, s.fault("an escape without end")
	}
	digits := s.in[s.at : s.at+4]
	// ParseUint takes a sign and underscores only in base 0, which this is not.
	value, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		return 0, s.fault("an escape that is not four hexadecimal digits")
	}
	s.at += 4
	return rune(value), nil
}
