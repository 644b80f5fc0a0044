package keys

import (
	"context"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/token"
)

// accessTokenType is RFC 9068 §2.1.
const accessTokenType = "at+jwt"

// AccessTokens signs access tokens and lets none out that gateways would
// refuse: each is parsed and verified with the code and the key set that they
// use.
type AccessTokens struct {
	ring     *Ring
	verifier *token.Verifier
	// keys is the parsed form of the published key set.
	keys publishedKeys
}

// AccessRules are what verifiers hold access tokens against.
type AccessRules struct {
	// Issuer is the iss claim.
	Issuer string
	// Skew is how far clocks may be apart.
	Skew time.Duration
	// MaxLifetime is the longest life of an access token.
	MaxLifetime time.Duration
}

// NewAccessTokens signs with a Ring under these rules.
func NewAccessTokens(r *Ring, rules AccessRules) (*AccessTokens, error) {
	a := &AccessTokens{ring: r}
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: rules.Issuer, Algorithms: everyAlgorithm(),
		Types: []string{accessTokenType}, Bound: true, Skew: rules.Skew, MaxLifetime: rules.MaxLifetime,
		Now: r.now, Keys: func() *token.KeySet { return a.keys.of(r.current.Load()) },
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the verification of access tokens: %w", err)
	}
	a.verifier = verifier
	return a, nil
}

// everyAlgorithm is all that the ring may ever have signed with: which of them
// a key is for is said by the key (RFC 8725 §3.1).
func everyAlgorithm() (all []token.Algorithm) {
	for _, name := range Algorithms() {
		all = append(all, token.Algorithm(name))
	}
	return all
}

// SignAccessToken signs claims as an access token with an algorithm.
func (a *AccessTokens) SignAccessToken(ctx context.Context, algorithm string, claims []byte) (string, error) {
	_, input, signature, err := a.ring.sign(ctx, algorithm, accessTokenType, claims)
	if err != nil {
		return "", err
	}
	signed := join(input, signature)
	if _, err := a.Verify(ctx, signed); err != nil {
		return "", fmt.Errorf("verifying an access token before it leaves: %w", err)
	}
	return signed, nil
}

// Verify verifies an access token of ours, as a gateway would. It does not
// look for revocations (store.Revocations.Alive), nor whether who presents it
// holds the key that it may be bound to (Claims.Confirmation).
func (a *AccessTokens) Verify(ctx context.Context, signed string) (*token.Claims, error) {
	parsed, err := token.Parse(signed)
	if err != nil {
		return nil, err
	}
	return a.verifier.Verify(ctx, parsed)
}
