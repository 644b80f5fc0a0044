package token

import (
	"fmt"
)

// header is what we read of a JOSE header.
type header struct {
	alg Algorithm
	typ string
	kid string
}

// Bounds on the header's strings, in bytes.
const (
	maxKeyID = 256
	maxType  = 64
)

// parseHeader reads a JOSE header: alg, typ and kid must be there, what would
// change the meaning of the rest must not, and anything else is passed over
// (RFC 7515 §4).
func parseHeader(text string) (h header, err error) {
	err = scanObject(text, func(s *scanner, name string) (err error) {
		switch name {
		case "alg":
			h.alg, err = algorithm(s)
		case "typ":
			h.typ, err = label(s, name, maxType)
		case "kid":
			h.kid, err = label(s, name, maxKeyID)
		default:
			if reason := forbidden(name); reason != "" {
				return fmt.Errorf("the header has %q: %s", name, reason)
			}
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return h, err
	}
	for _, member := range [...]struct{ name, value string }{{"alg", string(h.alg)}, {"typ", h.typ}, {"kid", h.kid}} {
		if member.value == "" {
			return h, fmt.Errorf("the header has no %q", member.name)
		}
	}
	return h, nil
}

// forbidden tells why a header parameter is refused, whatever its value; empty:
// it is not.
func forbidden(name string) string {
	switch name {
	case "crit", "b64": // RFC 7515 §4.1.11, RFC 7797 §3
		return "no extension is understood here"
	case "jku", "jwk", "x5u", "x5c": // RFC 8725 §3.10, RFC 7515 §10.5
		return "a token does not choose its own key"
	case "enc", "zip": // RFC 7516 §4.1.2 and §4.1.3
		return "it belongs to an encrypted token"
	case "cty": // RFC 7515 §4.1.10, RFC 7519 §5.2
		return "nested tokens are not taken"
	case "iss", "sub", "aud": // RFC 7519 §5.3
		return "claims are not repeated in a signed token's header"
	}
	return ""
}

// algorithm reads alg, by its exact name (RFC 7515 §4.1.1).
func algorithm(s *scanner) (Algorithm, error) {
	name, err := s.text()
	if err != nil {
		return "", err
	}
	if alg := Algorithm(name); supported(alg) {
		return alg, nil
	}
	return "", refuse(ReasonAlgorithm, "alg %s is none of %v", quoted(name), Algorithms())
}

// label reads a string that names something: not empty, bounded, and without
// control characters.
func label(s *scanner, name string, limit int) (string, error) {
	text, err := s.text()
	if err != nil {
		return "", fmt.Errorf("reading %q: %w", name, err)
	}
	if err := checkLabel(text, limit); err != nil {
		return "", fmt.Errorf("reading %q: %w", name, err)
	}
	return text, nil
}

func checkLabel(text string, limit int) error {
	switch {
	case text == "":
		return fmt.Errorf("the string is empty")
	case len(text) > limit:
		return fmt.Errorf("the string has %d bytes, more than %d", len(text), limit)
	case hasControl(text):
		return fmt.Errorf("the string has a control character")
	}
	return nil
}

// hasControl finds what Unicode calls controls, C1 included: they end lines in
// logs and headers.
func hasControl(text string) bool {
	for _, r := range text {
		if r < ' ' || 0x7f <= r && r <= 0x9f || r == '\u2028' || r == '\u2029' {
			return true
		}
	}
	return false
}
