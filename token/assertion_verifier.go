package token

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// AssertionConfig says what assertions of one trust domain must be like.
type AssertionConfig struct {
	// Issuer is the exact iss: the SPIFFE id that the authorizers share.
	Issuer string
	// Skew is how far the authorizers' clocks may be off, 0 to MaxSkew.
	Skew time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Keys has the authorizers' current keys, nil while they are unknown.
	Keys func() *KeySet
}

// AssertionVerifier makes Assertions. It is safe for concurrent use.
type AssertionVerifier struct {
	config AssertionConfig
}

// NewAssertionVerifier checks the configuration.
func NewAssertionVerifier(config AssertionConfig) (*AssertionVerifier, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	switch {
	case checkLabel(config.Issuer, maxSPIFFE) != nil:
		return nil, fmt.Errorf("configuring the verifier of assertions: the issuer %q: %w", config.Issuer, checkLabel(config.Issuer, maxSPIFFE))
	case config.Skew < 0 || config.Skew > MaxSkew:
		return nil, fmt.Errorf("configuring the verifier of assertions: the skew %s is not between 0 and %s", config.Skew, MaxSkew)
	case config.Keys == nil:
		return nil, fmt.Errorf("configuring the verifier of assertions: it has no source of keys")
	}
	return &AssertionVerifier{config: config}, nil
}

// Verify reads an assertion as strictly as Parse reads an access token and
// checks that an authorizer signed it for this audience. The error is an *Error.
func (v *AssertionVerifier) Verify(text, audience string) (*Assertion, error) {
	parts, err := split(text)
	if err != nil {
		return nil, malformed(err)
	}
	head, err := parseHeader(parts.header)
	if err != nil {
		return nil, malformed(err)
	}
	switch { // before the claims: another token's would only be misread
	case head.typ != TypeAssertion: // RFC 8725 §3.11
		return nil, refuse(ReasonType, "typ is %s, not %q", quoted(head.typ), TypeAssertion)
	case head.alg != EdDSA: // RFC 8725 §3.1
		return nil, refuse(ReasonAlgorithm, "alg is %s, not %q", quoted(string(head.alg)), EdDSA)
	}
	body, err := parseAssertionPayload(parts.payload)
	if err != nil {
		return nil, malformed(err)
	}
	if body.issuer != v.config.Issuer { // RFC 8725 §3.8
		return nil, refuse(ReasonIssuer, "iss is %s, not %q", quoted(body.issuer), v.config.Issuer)
	}
	key, err := v.key(head.kid)
	if err != nil {
		return nil, err
	}
	if err := key.verify(parts.signed, parts.signature); err != nil {
		return nil, refuse(ReasonSignature, "verifying with the key %s: %w", quoted(key.id), err)
	}
	return v.accept(&body, key, text, audience)
}

// accept makes the Assertion of a signed claims set.
func (v *AssertionVerifier) accept(body *assertionPayload, key *Key, text, audience string) (*Assertion, error) {
	if err := body.check(); err != nil {
		return nil, err
	}
	a := &Assertion{
		claims: body.claims(), issuer: v.config.Issuer, transaction: body.transaction, requester: body.requester,
		actors: body.actors, issued: body.issued, expires: body.expires, signer: key,
	}
	a.claims.hash = sha256.Sum256([]byte(text))
	if got := a.SubjectType(); got != body.origin.subjectType {
		return nil, refuse(ReasonClaim, "subject_type is %s, and sub and client_id say %q", quoted(body.origin.subjectType), got)
	}
	if err := a.claims.checkSubject(); err != nil {
		return nil, err
	}
	if err := v.Recheck(a, audience); err != nil {
		return nil, err
	}
	return a, nil
}

func (v *AssertionVerifier) key(kid string) (*Key, error) {
	keys := v.config.Keys()
	if keys == nil {
		return nil, refuse(ReasonKeysUnavailable, "no authorizer's key is loaded, or they are too old")
	}
	key, ok := keys.Lookup(kid)
	if !ok || key.alg != EdDSA {
		return nil, refuse(ReasonUnknownKey, "no authorizer's key has the kid %s: it is retired, withdrawn or not there yet", quoted(kid))
	}
	return key, nil
}

// Recheck tells whether an assertion that was verified before would be verified
// now, for this audience: by a key that is still an authorizer's, in time.
func (v *AssertionVerifier) Recheck(a *Assertion, audience string) error {
	if a.signer == nil || a.issuer != v.config.Issuer {
		return refuse(ReasonClaim, "it was not verified under the present configuration")
	}
	if audience == "" || a.Audience() != audience { // RFC 7519 §4.1.3
		return refuse(ReasonAudience, "it is for %s, not %q", quoted(a.Audience()), audience)
	}
	key, err := v.key(a.signer.id)
	if err != nil {
		return err
	}
	if key.thumbprint != a.signer.thumbprint {
		return refuse(ReasonUnknownKey, "the key %s is another one now", quoted(key.id))
	}
	return a.checkTime(v.config.Now(), v.config.Skew)
}

func (a *Assertion) checkTime(now time.Time, skew time.Duration) error {
	switch at := now.UnixMicro(); {
	case at >= a.expires.micros+skew.Microseconds():
		return refuse(ReasonExpired, "it expired at %s", a.ExpiresAt().Format(time.RFC3339))
	case a.issued.micros > at+skew.Microseconds():
		return refuse(ReasonNotYetValid, "it was issued at %s, in the future", a.IssuedAt().Format(time.RFC3339))
	}
	return nil
}

// check demands every claim that an authorizer writes, and that its dates agree.
func (p *assertionPayload) check() error {
	for _, claim := range [...]struct {
		name  string
		given bool
	}{
		{"aud", p.audience != ""}, {"txn", p.transaction != ""}, {"req_wl", p.requester != ""},
		{"iat", p.issued.given}, {"exp", p.expires.given}, {"sub", p.caller.subject != ""}, {"client_id", p.caller.clientID != ""},
		{"tctx.iss", p.origin.issuer != ""}, {"tctx.jti", p.origin.id != ""}, {"tctx.kid", p.origin.key != ""},
		{"tctx.iat", p.origin.issued.given}, {"tctx.exp", p.origin.expires.given},
	} {
		if !claim.given {
			return refuse(ReasonClaim, "the claim %q is missing", claim.name)
		}
	}
	switch {
	case p.expires.micros <= p.issued.micros:
		return refuse(ReasonLifetime, "exp is not after iat")
	case p.expires.micros-p.issued.micros > MaxAssertionLife.Microseconds():
		return refuse(ReasonLifetime, "from iat to exp is longer than %s", MaxAssertionLife)
	case p.expires.micros > p.origin.expires.micros:
		return refuse(ReasonLifetime, "it outlives the access token that it was made from")
	}
	return nil
}
