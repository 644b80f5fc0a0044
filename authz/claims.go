package authz

import (
	"context"
	"slices"

	"gatehouse.dev/gatehouse/token"
)

// claims turns a bearer token into what its issuer vouches for on this route.
// The signature is checked once a token; what depends on the rule or the time
// is checked each time.
func (is *issuers) claims(ctx context.Context, bearer string, r *rule) (*token.Claims, error) {
	claims, err := is.vouched(ctx, bearer, r)
	if err != nil {
		return nil, err
	}
	if !claims.HasAudience(r.audience) {
		return nil, deny(ReasonWrongAudience, "the token is for %.200q, the route for %q", claims.Audience(), r.audience)
	}
	return claims, nil
}

// vouched is the token's claims if an issuer that the rule accepts vouches for
// them now. The cache holds only what would be verified again (token.Cache).
func (is *issuers) vouched(ctx context.Context, bearer string, r *rule) (*token.Claims, error) {
	if claims, seen := is.cache.Get(bearer, is.verifierOf); seen {
		is.metrics.hit.Inc()
		_, err := is.accept(claims.Issuer(), r)
		return claims, err
	}
	is.metrics.miss.Inc()
	unverified, err := token.Parse(bearer)
	if err != nil {
		return nil, refusal(err)
	}
	i, err := is.accept(unverified.Issuer(), r)
	if err != nil {
		return nil, err
	}
	claims, err := i.verifier.Verify(ctx, unverified)
	if err != nil {
		if token.ReasonOf(err) == token.ReasonUnknownKey {
			// Perhaps it is new: asked for, out of this request's way.
			i.remote.Refresh()
		}
		return nil, refusal(err)
	}
	is.cache.Put(i.verifier, claims)
	return claims, nil
}

// accept finds the issuer that a token names, if the rule accepts it.
func (is *issuers) accept(name string, r *rule) (*issuer, error) {
	if !slices.Contains(r.issuers, name) {
		return nil, deny(ReasonWrongIssuer, "the token is of issuer %.200q, the route accepts %q", name, r.issuers)
	}
	return is.find(name)
}

func (is *issuers) verifierOf(issuer string) *token.Verifier {
	if i := is.byName[issuer]; i != nil {
		return i.verifier
	}
	return nil
}

// refusal says in our reasons why the token package refused a token.
func refusal(err error) error {
	reason := ReasonInternal
	switch token.ReasonOf(err) {
	case token.ReasonMalformed:
		reason = ReasonMalformedToken
	case token.ReasonAlgorithm, token.ReasonType, token.ReasonSignature, token.ReasonClaim, token.ReasonLifetime, token.ReasonNotYetValid:
		reason = ReasonInvalidToken
	case token.ReasonAudience:
		reason = ReasonWrongAudience
	case token.ReasonExpired:
		reason = ReasonExpiredToken
	case token.ReasonIssuer:
		reason = ReasonWrongIssuer
	case token.ReasonUnknownKey:
		reason = ReasonUnknownKey
	case token.ReasonKeysUnavailable:
		reason = ReasonKeysMissing
	}
	return deny(reason, "verifying the token: %w", err)
}
