package token

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxClientAssertionLife is how long a client assertion may still be good for:
// its jti has to be remembered as long.
const MaxClientAssertionLife = 5 * time.Minute

// clientAssertionTypes are the values of typ that a client assertion may have,
// besides none. Tokens for other purposes have others (RFC 8725 §3.11).
var clientAssertionTypes = []string{"", "JWT", "client-authentication+jwt"}

// ClientAssertion is a JWT by which a client says who it is (RFC 7523 §2.2),
// well formed and nothing more. It is immutable.
type ClientAssertion struct {
	compact
	head   header
	body   payload
	listed bool // aud is an array
}

// ClientAssertionRules are what the assertion of one client is held against.
type ClientAssertionRules struct {
	// ClientID is the client's.
	ClientID string
	// Audience is the issuer identifier.
	Audience string
	// Algorithms are those that the client may sign with.
	Algorithms []Algorithm
	// Keys are the client's.
	Keys *KeySet
	// Skew is how far the client's clock may be off.
	Skew time.Duration
}

// ParseClientAssertion reads an assertion as strictly as a token, but for its
// kid: a client with one key need not name it. The error is an *Error.
func ParseClientAssertion(text string) (*ClientAssertion, error) {
	parts, err := split(text)
	if err != nil {
		return nil, malformed(err)
	}
	a := &ClientAssertion{compact: parts}
	if a.head, err = parseLooseHeader(parts.header); err != nil {
		return nil, malformed(err)
	}
	a.body.text = parts.payload
	err = scanObject(parts.payload, func(s *scanner, name string) error {
		if name == "aud" {
			a.listed = s.peek() == '['
		}
		if err := a.body.claim(s, name); err != nil {
			return fmt.Errorf("reading the claim %s: %w", quoted(name), err)
		}
		return nil
	})
	if err != nil {
		return nil, malformed(err)
	}
	return a, nil
}

// parseLooseHeader is parseHeader where typ and kid may be left out.
func parseLooseHeader(text string) (h header, err error) {
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
	if err == nil && h.alg == "" {
		err = errors.New(`the header has no "alg"`)
	}
	return h, err
}

// ClientID is whom the assertion names as its subject; empty: nobody.
func (a *ClientAssertion) ClientID() string { return a.body.subject }

// KeyID is the kid that it names; empty: none.
func (a *ClientAssertion) KeyID() string { return a.head.kid }

// ID is jti.
func (a *ClientAssertion) ID() string { return a.body.id }

// ExpiresAt is exp, in UTC.
func (a *ClientAssertion) ExpiresAt() time.Time { return a.body.expires.time() }

// Verify checks the assertion by RFC 7523 §3 and OpenID Connect Core §9, all
// but that its jti was not used before. The error is an *Error.
func (a *ClientAssertion) Verify(rules ClientAssertionRules, now time.Time) error {
	if !slices.Contains(clientAssertionTypes, a.head.typ) {
		return refuse(ReasonType, "typ is %s", quoted(a.head.typ))
	}
	key, err := a.key(rules)
	if err != nil {
		return err
	}
	if err := key.verify(a.signed, a.signature); err != nil {
		return refuse(ReasonSignature, "verifying with the key %s: %w", quoted(key.id), err)
	}
	if err := a.checkParties(rules); err != nil {
		return err
	}
	return a.checkTimes(rules.Skew, now)
}

// key is the one that the assertion names, or the client's only one for its
// algorithm.
func (a *ClientAssertion) key(rules ClientAssertionRules) (*Key, error) {
	if !slices.Contains(rules.Algorithms, a.head.alg) { // RFC 8725 §3.1
		return nil, refuse(ReasonAlgorithm, "alg %s is none of %v", a.head.alg, rules.Algorithms)
	}
	key, ok := rules.Keys.Lookup(a.head.kid)
	if a.head.kid == "" {
		key, ok = rules.Keys.only(a.head.alg)
	}
	switch {
	case !ok:
		return nil, refuse(ReasonUnknownKey, "the client has no key with the kid %s, or several to choose from", quoted(a.head.kid))
	case key.alg != a.head.alg:
		return nil, refuse(ReasonAlgorithm, "the key %s is for %s, and alg is %s", quoted(key.id), key.alg, a.head.alg)
	}
	return key, nil
}

// only is the set's one key for an algorithm.
func (ks *KeySet) only(alg Algorithm) (key *Key, ok bool) {
	if ks == nil {
		return nil, false
	}
	for _, k := range ks.byID {
		if k.alg == alg {
			key, ok = k, key == nil
		}
	}
	return key, ok
}

// checkParties wants one audience, us: an assertion that another server takes
// as well could be passed on by it (RFC 7523 §3 no. 3, RFC 9700 §4.4).
func (a *ClientAssertion) checkParties(rules ClientAssertionRules) error {
	b := &a.body
	switch {
	case b.issuer != rules.ClientID || b.subject != rules.ClientID: // nos. 1 and 2
		return refuse(ReasonIssuer, "iss and sub are not both the client's id")
	case a.listed || len(b.audience) != 1 || b.audience[0] != rules.Audience:
		return refuse(ReasonClaim, "aud is not %q alone, as a string", rules.Audience)
	case b.id == "": // no. 7
		return refuse(ReasonClaim, "the claim \"jti\" is missing")
	case b.bound:
		return refuse(ReasonClaim, "it is bound to a key by cnf")
	}
	return nil
}

// checkTimes wants a short life: nos. 4 to 6.
func (a *ClientAssertion) checkTimes(skew time.Duration, now time.Time) error {
	b, at := &a.body, now.UnixMicro()
	soon, late := at+skew.Microseconds(), at-skew.Microseconds()
	switch {
	case !b.expires.given:
		return refuse(ReasonClaim, "the claim \"exp\" is missing")
	case b.expires.micros <= late:
		return refuse(ReasonExpired, "it expired at %s", a.ExpiresAt().Format(time.RFC3339))
	case b.expires.micros > soon+MaxClientAssertionLife.Microseconds():
		return refuse(ReasonLifetime, "it is good for longer than %s from now", MaxClientAssertionLife)
	case b.issued.given && b.issued.micros > soon, b.before.given && b.before.micros > soon:
		return refuse(ReasonNotYetValid, "its iat or nbf is in the future")
	case b.issued.given && b.issued.micros >= b.expires.micros:
		return refuse(ReasonLifetime, "exp is not after iat")
	}
	return nil
}
