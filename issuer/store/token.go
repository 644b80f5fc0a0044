package store

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Hash is the SHA-256 of a code, token or secret: all of them carry 256 random
// bits, so nothing slower is needed.
type Hash [sha256.Size]byte

// HashOf hashes a code, token or secret as it travels.
func HashOf(token string) Hash { return sha256.Sum256([]byte(token)) }

// IsZero tells that there is no hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// Matches compares in constant time with what a caller presents. A zero hash
// matches nothing.
func (h Hash) Matches(token string) bool {
	presented := HashOf(token)
	return subtle.ConstantTimeCompare(h[:], presented[:]) == 1 && !h.IsZero()
}

// MarshalText implements encoding.TextMarshaler; zero is the empty text.
func (h Hash) MarshalText() ([]byte, error) {
	if h.IsZero() {
		return nil, nil
	}
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Hash{}
		return nil
	}
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("decoding a hash: it has %d characters, not %d", len(text), hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fmt.Errorf("decoding a hash: %w", err)
	}
	return nil
}

// NewToken is a new code, token or secret: the prefix, which tells people and
// secret scanners what they found, and 256 random bits.
func NewToken(prefix string) string {
	var random [32]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// NewID is a new id for a user, session, grant or client: the prefix and 128
// random bits. It is no secret.
func NewID(prefix string) string {
	var random [16]byte
	rand.Read(random[:])
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// RefreshPrefix begins every refresh token.
const RefreshPrefix = "ghr_"

// Successor is the refresh token that replaces another.
//
// It is derived, not drawn: only hashes are stored, yet a client whose answer
// got lost on the way must be given the very same successor again. Whoever has
// a token but not the key cannot compute what follows it; whoever has the key
// (it comes from the key-encryption key) could sign tokens anyway. The chain
// keeps the 256 random bits that its first token was drawn with.
func Successor(key []byte, token string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("gatehouse refresh successor v1\x00"))
	mac.Write([]byte(token))
	return RefreshPrefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
