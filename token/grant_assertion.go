package token

import (
	"slices"
	"time"
)

// grantAssertionTypes are the values of typ that an assertion for a grant may
// have, besides none. Tokens for other purposes have others (RFC 8725 §3.11).
var grantAssertionTypes = []string{"", "JWT", "authorization-grant+jwt"}

// GrantAssertion is a JWT by which another issuer vouches for somebody to ours
// (RFC 7523 §2.1), well formed and nothing more. It is immutable.
type GrantAssertion struct{ a *ClientAssertion }

// GrantAssertionRules are what the assertions of one issuer are held against.
type GrantAssertionRules struct {
	// Issuer is the exact iss.
	Issuer string
	// Audience is the one aud.
	Audience string
	// Algorithms are those that the issuer may sign with.
	Algorithms []Algorithm
	// Keys are the issuer's; nil: they are not loaded.
	Keys *KeySet
	// Skew is how far the issuer's clock may be off.
	Skew time.Duration
	// MaxLifetime is the longest time from iat to exp.
	MaxLifetime time.Duration
}

// ParseGrantAssertion reads an assertion as strictly as a token, but for its
// kid and typ, which may be left out. The error is an *Error.
func ParseGrantAssertion(text string) (*GrantAssertion, error) {
	a, err := ParseClientAssertion(text)
	if err != nil {
		return nil, err
	}
	return &GrantAssertion{a}, nil
}

// Issuer is whom it names as its issuer, to choose the rules; empty: nobody.
func (g *GrantAssertion) Issuer() string { return g.a.body.issuer }

// Subject is whom it vouches for.
func (g *GrantAssertion) Subject() string { return g.a.body.subject }

// ID is jti.
func (g *GrantAssertion) ID() string { return g.a.body.id }

// KeyID is the kid that it names; empty: none.
func (g *GrantAssertion) KeyID() string { return g.a.head.kid }

// ExpiresAt is exp, in UTC.
func (g *GrantAssertion) ExpiresAt() time.Time { return g.a.body.expires.time() }

// Verify checks the assertion by RFC 7523 §3, all but that its jti was not used
// before. The error is an *Error.
func (g *GrantAssertion) Verify(rules GrantAssertionRules, now time.Time) error {
	if !slices.Contains(grantAssertionTypes, g.a.head.typ) {
		return refuse(ReasonType, "typ is %s", quoted(g.a.head.typ))
	}
	if rules.Keys == nil {
		return refuse(ReasonKeysUnavailable, "the keys of %q are not loaded, or too old", rules.Issuer)
	}
	key, err := g.a.key(ClientAssertionRules{Algorithms: rules.Algorithms, Keys: rules.Keys})
	if err != nil {
		return err
	}
	if err := key.verify(g.a.signed, g.a.signature); err != nil {
		return refuse(ReasonSignature, "verifying with the key %s: %w", quoted(key.id), err)
	}
	if err := g.checkParties(rules); err != nil {
		return err
	}
	return g.checkTimes(rules, now)
}

// checkParties wants one audience, us, as for a client's assertion.
func (g *GrantAssertion) checkParties(rules GrantAssertionRules) error {
	b := &g.a.body
	switch {
	case b.issuer != rules.Issuer: // no. 1
		return refuse(ReasonIssuer, "iss is %s, not %q", quoted(b.issuer), rules.Issuer)
	case b.subject == "": // no. 2
		return refuse(ReasonClaim, "the claim \"sub\" is missing")
	case g.a.listed || len(b.audience) != 1 || b.audience[0] != rules.Audience: // no. 3
		return refuse(ReasonClaim, "aud is not %q alone, as a string", rules.Audience)
	case b.id == "": // no. 7
		return refuse(ReasonClaim, "the claim \"jti\" is missing")
	case b.bound:
		return refuse(ReasonClaim, "it is bound to a key by cnf")
	}
	return nil
}

// checkTimes wants a bounded life: nos. 4 to 6.
func (g *GrantAssertion) checkTimes(rules GrantAssertionRules, now time.Time) error {
	b, at := &g.a.body, now.UnixMicro()
	for _, claim := range [...]struct {
		name string
		at   date
	}{{"exp", b.expires}, {"iat", b.issued}} {
		if !claim.at.given {
			return refuse(ReasonClaim, "the claim %q is missing", claim.name)
		}
	}
	skew, life := rules.Skew.Microseconds(), b.expires.micros-b.issued.micros
	switch {
	case b.expires.micros <= at-skew:
		return refuse(ReasonExpired, "it expired at %s", g.ExpiresAt().Format(time.RFC3339))
	case b.issued.micros > at+skew, b.before.given && b.before.micros > at+skew:
		return refuse(ReasonNotYetValid, "its iat or nbf is in the future")
	case life <= 0 || life > rules.MaxLifetime.Microseconds():
		return refuse(ReasonLifetime, "from iat to exp is not between 0 and %s", rules.MaxLifetime)
	}
	return nil
}
