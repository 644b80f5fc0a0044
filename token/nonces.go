package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Nonces gives out nonces for DPoP proofs (RFC 9449 §8) without remembering
// them: each is an HMAC of the span of time in which it is given out, so whoever
// has none of this span or the last made the proof before, or guessed.
type Nonces struct {
	key  []byte
	span time.Duration
}

// NewNonces makes nonces that are good for one to two spans. Whoever has the
// key can make them ahead of time; with a new key all are void.
func NewNonces(key []byte, span time.Duration) *Nonces { return &Nonces{key: key, span: span} }

// Current is the nonce to give out now.
func (n *Nonces) Current(now time.Time) string { return n.of(n.index(now)) }

// Good tells whether a nonce was given out in this span or the last.
func (n *Nonces) Good(nonce string, now time.Time) bool {
	at := n.index(now)
	this := hmac.Equal([]byte(nonce), []byte(n.of(at)))
	last := hmac.Equal([]byte(nonce), []byte(n.of(at-1)))
	return this || last
}

func (n *Nonces) index(now time.Time) int64 { return now.UnixNano() / int64(n.span) }

func (n *Nonces) of(index int64) string {
	mac := hmac.New(sha256.New, n.key)
	mac.Write([]byte("gatehouse nonce v1\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(index)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
