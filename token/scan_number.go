package token

import (
	"math"
	"strconv"
	"strings"
)

// maxNumber bounds a number's spelling, in bytes. Nothing that a double can
// tell apart needs as many.
const maxNumber = 40

// plainDigits are digits that a double holds exactly, whatever they are.
const plainDigits = 15

// number reads a number and returns its spelling. It fits a double: what reads
// it afterwards neither overflows nor loses it to zero (RFC 7493 §2.2).
func (s *scanner) number() (string, error) {
	s.peek()
	start := s.at
	s.digit('-')
	if !s.integer() {
		return "", s.fault("not a number")
	}
	plain := s.at - start
	if s.digit('.') && !s.digits() {
		return "", s.fault("no digit after a number's point")
	}
	if s.digit('e') || s.digit('E') {
		if !s.digit('+') {
			s.digit('-')
		}
		if !s.digits() {
			return "", s.fault("a number without its exponent")
		}
	}
	spelling := s.in[start:s.at]
	if len(spelling) == plain && plain <= plainDigits {
		return spelling, nil
	}
	if len(spelling) > maxNumber || !fitsDouble(spelling) {
		return "", s.fault("a number that is out of range")
	}
	return spelling, nil
}

// digit takes the byte c, without white space before it.
func (s *scanner) digit(c byte) bool {
	if s.at < len(s.in) && s.in[s.at] == c {
		s.at++
		return true
	}
	return false
}

// digits takes one digit or more.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// integer takes a number's whole part, which has no leading zero.
func (s *scanner) integer() bool { return s.digit('0') || s.digits() }

func fitsDouble(spelling string) bool {
	value, err := strconv.ParseFloat(spelling, 64)
	if err != nil {
		return false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(spelling), "e")
	if len(exponent) > len("-308") { // of zero: big numbers' readers choke on it
		return false
	}
	return value != 0 || !strings.ContainsAny(mantissa, "123456789")
}

// maxDate is the end of the year 9999, in seconds since 1970.
const maxDate = 253402300799

// date reads a NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a
// fraction, never negative. It returns microseconds, which a double of today's
// size holds.
func (s *scanner) date() (int64, error) {
	spelling, err := s.number()
	if err != nil {
		return 0, err
	}
	if spelling[0] == '-' {
		return 0, s.fault("a date before 1970")
	}
	seconds, err := strconv.ParseFloat(spelling, 64)
	if err != nil || !(seconds <= maxDate) {
		return 0, s.fault("a date after the year 9999")
	}
	return int64(math.Round(seconds * 1e6)), nil
}
