package token

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// The values of Claims.SubjectType.
const (
	SubjectUser   = "user"
	SubjectClient = "client"
)

// userPrefix begins the id of every person at our issuer, and of no client.
const userPrefix = "usr_"

// Claims are what a verified token says. They are immutable, safe for
// concurrent use, and shared: neither slices nor the map may be changed. Claims
// that no Verifier made are expired and name nobody.
type Claims struct {
	payload
	key      *Key
	revision string // of the configuration that they were verified under
	hash     digest // of the token
}

// digest identifies a token without being one.
type digest = [sha256.Size]byte

// Issuer is iss.
func (c *Claims) Issuer() string { return c.issuer }

// Subject is sub.
func (c *Claims) Subject() string { return c.subject }

// SubjectType is "client" where a client acts for itself, so that sub is its
// client_id (RFC 9068 §2.2), or where subject_type says so, because another
// client acts for it; and "user" otherwise.
func (c *Claims) SubjectType() string {
	switch {
	case c.subject == "":
		return ""
	case c.subject == c.clientID, c.machine:
		return SubjectClient
	default:
		return SubjectUser
	}
}

// ClientID is client_id.
func (c *Claims) ClientID() string { return c.clientID }

// Audience is aud, with one member or more.
func (c *Claims) Audience() []string { return c.audience }

// HasAudience tells whether aud names exactly this audience: strings are
// compared byte by byte (RFC 7519 §2, StringOrURI).
func (c *Claims) HasAudience(audience string) bool {
	return slices.Contains(c.audience, audience)
}

// Scopes are the members of scope, in the token's order, each once; nil if it
// has none.
func (c *Claims) Scopes() []string { return c.scopes }

// Roles is roles; nil if it has none.
func (c *Claims) Roles() []string { return c.roles }

// Plan is plan, the name of what the caller may use; empty if it has none.
func (c *Claims) Plan() string { return c.plan }

// ID is jti.
func (c *Claims) ID() string { return c.id }

// SessionID is sid; empty if no person logged in.
func (c *Claims) SessionID() string { return c.session }

// GrantID is grant_id; empty if no person logged in.
func (c *Claims) GrantID() string { return c.grant }

// Confirmation is what the token is bound to (cnf). Only a Verifier with Bound
// makes Claims that have one; whoever uses them checks it at each use.
func (c *Claims) Confirmation() Confirmation { return c.confirm }

// IssuedAt is iat, in UTC.
func (c *Claims) IssuedAt() time.Time { return c.issued.time() }

// ExpiresAt is exp, in UTC.
func (c *Claims) ExpiresAt() time.Time { return c.expires.time() }

// KeyID is the kid of the key that signed the token.
func (c *Claims) KeyID() string {
	if c.key == nil {
		return ""
	}
	return c.key.id
}

// Hash is the SHA-256 of the token: it tells tokens apart without being one.
func (c *Claims) Hash() [sha256.Size]byte { return c.hash }

// Raw is the whole claims set as JSON decodes it, numbers as json.Number. It is
// decoded anew on each call, at several microseconds: ask only where something
// reads it.
func (c *Claims) Raw() map[string]any {
	raw := map[string]any{}
	decoder := json.NewDecoder(strings.NewReader(c.text))
	decoder.UseNumber()
	// The text went through our stricter scanner, so this cannot fail; and if
	// it did, a policy would see fewer claims, not more.
	if err := decoder.Decode(&raw); err != nil {
		return map[string]any{}
	}
	return raw
}

// CheckTime tells whether the token is valid at a time, with clocks that may
// differ by skew (RFC 7519 §4.1.4 to §4.1.6). The error is an *Error with
// ReasonExpired or ReasonNotYetValid.
func (c *Claims) CheckTime(now time.Time, skew time.Duration) error {
	switch at := now.UnixMicro(); {
	case at >= c.expires.micros+skew.Microseconds():
		return refuse(ReasonExpired, "it expired at %s", c.ExpiresAt().Format(time.RFC3339))
	case c.issued.micros > at+skew.Microseconds():
		return refuse(ReasonNotYetValid, "it was issued at %s, in the future", c.IssuedAt().Format(time.RFC3339))
	case c.before.micros > at+skew.Microseconds():
		return refuse(ReasonNotYetValid, "it is not valid before %s", c.before.time().Format(time.RFC3339))
	}
	return nil
}

func (d date) time() time.Time {
	if !d.given {
		return time.Time{}
	}
	return time.UnixMicro(d.micros).UTC()
}
