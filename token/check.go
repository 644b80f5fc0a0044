package token

import (
	"strings"
	"time"
)

// checkClaims checks what a signed token says. The order makes no difference to
// the outcome.
func (v *Verifier) checkClaims(c *Claims) error {
	if err := c.checkPresence(); err != nil {
		return err
	}
	if err := c.checkBinding(v.config.Bound); err != nil {
		return err
	}
	if err := c.checkSubject(); err != nil {
		return err
	}
	if err := c.checkLifetime(v.config.MaxLifetime); err != nil {
		return err
	}
	return c.CheckTime(v.config.Now(), v.config.Skew)
}

// checkPresence demands what RFC 9068 §2.2 makes mandatory. A claim that is
// there is of the right kind since it was parsed.
func (c *Claims) checkPresence() error {
	for _, claim := range [...]struct {
		name  string
		given bool
	}{
		{"iss", c.issuer != ""}, {"sub", c.subject != ""}, {"aud", len(c.audience) > 0}, {"exp", c.expires.given},
		{"iat", c.issued.given}, {"jti", c.id != ""}, {"client_id", c.clientID != ""},
	} {
		if !claim.given {
			return refuse(ReasonClaim, "the claim %q is missing", claim.name)
		}
	}
	return nil
}

// checkBinding refuses a token whose proof of possession nobody here checks: to
// accept it from whoever bears it would undo the binding (RFC 7800 §3.1, RFC
// 9449 §7.1, RFC 8705 §3).
func (c *Claims) checkBinding(proven bool) error {
	if c.bound && (c.foreign || !proven) {
		return refuse(ReasonClaim, "it is bound to a key by cnf, of which no proof can be checked here")
	}
	return nil
}

// checkSubject keeps people and clients apart (RFC 9068 §5): their ids are
// disjoint at our issuer.
func (c *Claims) checkSubject() error {
	if strings.HasPrefix(c.clientID, userPrefix) {
		return refuse(ReasonClaim, "client_id is a person's id: it begins with %q", userPrefix)
	}
	if c.machine && strings.HasPrefix(c.subject, userPrefix) {
		return refuse(ReasonClaim, "subject_type is client and sub a person's id: it begins with %q", userPrefix)
	}
	return nil
}

// checkLifetime holds a token to its own dates.
func (c *Claims) checkLifetime(longest time.Duration) error {
	switch {
	case c.expires.micros <= c.issued.micros:
		return refuse(ReasonLifetime, "exp is not after iat")
	case c.before.given && c.expires.micros <= c.before.micros:
		return refuse(ReasonLifetime, "exp is not after nbf")
	case c.expires.micros-c.issued.micros > longest.Microseconds():
		return refuse(ReasonLifetime, "from iat to exp is longer than %s", longest)
	}
	return nil
}
