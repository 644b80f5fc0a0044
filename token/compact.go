package token

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// MaxSize bounds a token, in bytes: what one HTTP header can commonly carry.
const MaxSize = 8 << 10

// compact is a JWS in the compact serialization (RFC 7515 §7.1), taken apart.
type compact struct {
	signed    string // the signing input (RFC 7515 §5.2 step 8), exactly as sent
	header    string // decoded
	payload   string // decoded
	signature []byte
}

func split(token string) (c compact, err error) {
	if len(token) > MaxSize {
		return c, fmt.Errorf("the token has %d bytes, more than %d", len(token), MaxSize)
	}
	header, rest, ok := strings.Cut(token, ".")
	payload, signature, two := strings.Cut(rest, ".")
	if !ok || !two || strings.Contains(signature, ".") {
		return c, fmt.Errorf("the token has %d parts, not the three of a compact JWS", strings.Count(token, ".")+1)
	}
	c.signed = token[:len(header)+1+len(payload)]
	if c.header, err = decodeText(header); err != nil {
		return c, fmt.Errorf("decoding the header: %w", err)
	}
	if c.payload, err = decodeText(payload); err != nil {
		return c, fmt.Errorf("decoding the payload: %w", err)
	}
	if c.signature, err = decode(signature); err != nil {
		return c, fmt.Errorf("decoding the signature: %w", err)
	}
	if len(c.signature) == 0 { // RFC 7515 appendix A.5: an unsecured JWS
		return c, fmt.Errorf("the signature is empty")
	}
	return c, nil
}

func decodeText(part string) (string, error) {
	raw, err := decode(part)
	return string(raw), err
}

// strict refuses padding and bits beyond the last byte (RFC 4648 §3.5).
var strict = base64.RawURLEncoding.Strict()

// decode takes base64url in its one canonical spelling (RFC 7515 §2), so that
// no two tokens differ only in how they are written.
func decode(part string) ([]byte, error) {
	// encoding/base64 passes over line breaks, even when strict.
	if strings.ContainsAny(part, "\r\n") {
		return nil, fmt.Errorf("a line break in base64url")
	}
	raw, err := strict.DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("not canonical base64url: %w", err)
	}
	return raw, nil
}
