package token

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxSkew bounds VerifierConfig.Skew: RFC 7519 §4.1.4 allows "no more than a
// few minutes".
const MaxSkew = 2 * time.Minute

// VerifierConfig says what tokens of one issuer must be like.
type VerifierConfig struct {
	// Issuer is the exact iss.
	Issuer string
	// Algorithms are those the issuer may sign with.
	Algorithms []Algorithm
	// Types are the accepted values of typ, exactly. Default: those of RFC 9068
	// §4, "at+jwt" and "application/at+jwt".
	Types []string
	// Bound takes tokens that are bound to a key (cnf) as well. Danger: whoever
	// sets it must have Claims.Confirmation proven at each use, or else the
	// binding is undone.
	Bound bool
	// Skew is how far the issuer's clock may be off, 0 to MaxSkew.
	Skew time.Duration
	// MaxLifetime is the longest time from iat to exp.
	MaxLifetime time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Keys has the issuer's current keys, nil while they are unknown. It is
	// called for each token and must be fast.
	Keys func() *KeySet
}

// Verifier makes Claims of one issuer's tokens. It is safe for concurrent use.
type Verifier struct {
	config   VerifierConfig
	revision string
}

// NewVerifier checks the configuration.
func NewVerifier(config VerifierConfig) (*Verifier, error) {
	config.Algorithms = slices.Clone(config.Algorithms)
	config.Types = slices.Clone(config.Types)
	if len(config.Types) == 0 {
		config.Types = []string{"at+jwt", "application/at+jwt"}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("configuring the verifier of %q: %w", config.Issuer, err)
	}
	return &Verifier{config: config, revision: config.revision()}, nil
}

func (c *VerifierConfig) check() error {
	if err := checkLabel(c.Issuer, maxIssuer); err != nil {
		return fmt.Errorf("the issuer: %w", err)
	}
	if err := checkAlgorithms(c.Algorithms); err != nil {
		return err
	}
	for _, typ := range c.Types {
		if err := checkLabel(typ, maxType); err != nil {
			return fmt.Errorf("the type %q: %w", typ, err)
		}
	}
	switch {
	case c.Skew < 0 || c.Skew > MaxSkew:
		return fmt.Errorf("the skew %s is not between 0 and %s", c.Skew, MaxSkew)
	case c.MaxLifetime <= 0:
		return fmt.Errorf("the longest lifetime %s is not positive", c.MaxLifetime)
	case c.Keys == nil:
		return fmt.Errorf("it has no source of keys")
	}
	return nil
}

// revision is the same for configurations that accept the same tokens.
func (c *VerifierConfig) revision() string {
	algs := make([]string, len(c.Algorithms))
	for i, alg := range c.Algorithms {
		algs[i] = string(alg)
	}
	types := slices.Clone(c.Types)
	slices.Sort(algs)
	slices.Sort(types)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %d %t", c.Issuer, algs, types, c.Skew, c.MaxLifetime, c.Bound))
	return hex.EncodeToString(sum[:8])
}

// Issuer is the issuer whose tokens it verifies.
func (v *Verifier) Issuer() string { return v.config.Issuer }

// Revision identifies the configuration: what was verified under another one
// has to be verified again.
func (v *Verifier) Revision() string { return v.revision }

// Verify checks the signature, then the claims (RFC 7515 §5.2, RFC 7519 §7.2,
// RFC 9068 §4). What depends on the route is the caller's: Claims.HasAudience,
// scopes and revocation. The error is an *Error.
func (v *Verifier) Verify(ctx context.Context, u *Unverified) (*Claims, error) {
	if err := ctx.Err(); err != nil {
		return nil, refuse(ReasonCanceled, "before verifying: %w", err)
	}
	if err := v.checkHeader(u); err != nil {
		return nil, err
	}
	key, err := v.key(u)
	if err != nil {
		return nil, err
	}
	if err := key.verify(u.signed, u.signature); err != nil {
		return nil, refuse(ReasonSignature, "verifying with the key %s: %w", quoted(key.id), err)
	}
	claims := &Claims{payload: u.body, key: key, revision: v.revision, hash: sha256.Sum256([]byte(u.token))}
	if err := v.checkClaims(claims); err != nil {
		return nil, err
	}
	// One copy of what all tokens of the issuer share.
	claims.issuer = v.config.Issuer
	return claims, nil
}

// checkHeader compares what the token says of itself with what its issuer's
// tokens are.
func (v *Verifier) checkHeader(u *Unverified) error {
	switch {
	case u.body.issuer != v.config.Issuer: // RFC 8725 §3.8
		return refuse(ReasonIssuer, "iss is %s, not %q", quoted(u.body.issuer), v.config.Issuer)
	case !slices.Contains(v.config.Types, u.head.typ): // RFC 8725 §3.11, RFC 9068 §4
		return refuse(ReasonType, "typ is %s, not %s", quoted(u.head.typ), strings.Join(v.config.Types, " or "))
	case !slices.Contains(v.config.Algorithms, u.head.alg): // RFC 8725 §3.1
		return refuse(ReasonAlgorithm, "alg is %s, none of %v", quoted(string(u.head.alg)), v.config.Algorithms)
	}
	return nil
}

// key finds the issuer's key by kid and nothing else: what is not named is not
// tried.
func (v *Verifier) key(u *Unverified) (*Key, error) {
	keys := v.config.Keys()
	if keys == nil {
		return nil, refuse(ReasonKeysUnavailable, "the keys of %q are not loaded, or too old", v.config.Issuer)
	}
	key, ok := keys.Lookup(u.head.kid)
	switch {
	case !ok:
		return nil, refuse(ReasonUnknownKey, "no key of %q has the kid %s", v.config.Issuer, quoted(u.head.kid))
	case key.alg != u.head.alg: // RFC 8725 §3.1
		return nil, refuse(ReasonAlgorithm, "the key %s is for %s, and alg is %s", quoted(key.id), key.alg, quoted(string(u.head.alg)))
	}
	return key, nil
}

// Recheck tells whether claims that were verified before would be verified now:
// under the same configuration, by a key that the issuer still has, in time.
func (v *Verifier) Recheck(claims *Claims) error {
	if claims.key == nil || claims.revision != v.revision {
		return refuse(ReasonClaim, "it was not verified under the present configuration")
	}
	keys := v.config.Keys()
	if keys == nil {
		return refuse(ReasonKeysUnavailable, "the keys of %q are not loaded, or too old", v.config.Issuer)
	}
	key, ok := keys.Lookup(claims.key.id)
	if !ok || key.thumbprint != claims.key.thumbprint || key.alg != claims.key.alg {
		return refuse(ReasonUnknownKey, "the key %s is no longer the issuer's", quoted(claims.key.id))
	}
	return claims.CheckTime(v.config.Now(), v.config.Skew)
}
