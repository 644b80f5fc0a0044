package issuer

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
)

// redeem exchanges an authorization code (RFC 6749 §4.1.3) for tokens. One
// transaction of the store consumes the code and creates the grant, so of any
// number of parallel tries one succeeds; a later one revokes what the first
// was given.
func (s *server) redeem(ctx context.Context, client store.Client, f form) (*tokenResponse, error) {
	for _, name := range []string{"code", "redirect_uri", "code_verifier"} {
		if !f.has(name) {
			return nil, fail(codeInvalidRequest, name+" is missing")
		}
	}
	resources, err := s.catalog.askedResources(f)
	if err != nil {
		return nil, err
	}
	refresh := store.NewToken(store.RefreshPrefix)
	issuance, err := s.store.RedeemCode(ctx, store.Redemption{
		Code:     store.HashOf(f.get("code")),
		ClientID: client.ID,
		GrantID:  store.NewID("gra_"),
		Decide: func(code store.Code) (store.Terms, error) {
			terms := s.terms(client, code, refresh)
			terms.Holder = refreshHolder(ctx, client)
			return terms, cmp.Or(checkCodeHolder(ctx, code), s.catalog.checkRedemption(code, f, resources))
		},
	})
	if err != nil {
		return nil, s.spent(ctx, "authorization code", client, err)
	}
	if !s.catalog.refreshable(client, issuance.Grant.Scopes) {
		refresh = ""
	}
	return s.answer(ctx, client, issuance, resources, personTokens{nonce: issuance.Code.Nonce, refresh: refresh}, nil)
}

// terms are how long a grant lives: as long as it can be refreshed, or else as
// long as its one access token.
func (s *server) terms(client store.Client, code store.Code, refresh string) store.Terms {
	if s.catalog.refreshable(client, code.Scopes) {
		return store.Terms{ExpiresAt: s.now().Add(s.config.RefreshLifetime), Refresh: store.HashOf(refresh)}
	}
	return store.Terms{ExpiresAt: s.now().Add(s.config.AccessTokenLifetime + skew)}
}

// checkRedemption holds the request against what the code was issued for.
func (c *catalog) checkRedemption(code store.Code, f form, resources []string) error {
	if subtle.ConstantTimeCompare([]byte(code.RedirectURI), []byte(f.get("redirect_uri"))) != 1 {
		return fail(codeInvalidGrant, "redirect_uri differs from the one of the authorization request")
	}
	verifier := f.get("code_verifier")
	if !isVerifier(verifier) || !verifierMatches(code.Challenge, verifier) {
		return fail(codeInvalidGrant, "code_verifier does not match the challenge")
	}
	return c.checkResources(code.Scopes, code.Audience, resources)
}

// isVerifier is the grammar of RFC 7636 §4.1.
func isVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	return !slices.ContainsFunc([]byte(v), func(c byte) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~')
	})
}

// checkResources lets a token request narrow the resources that were granted,
// never widen them (RFC 8707 §2.2). No granted ones: none were named, all are.
func (c *catalog) checkResources(scopes, granted, asked []string) error {
	for _, resource := range asked {
		if len(granted) > 0 && !slices.Contains(granted, resource) {
			return fail(codeInvalidTarget, "the resource was not granted")
		}
	}
	if err := c.checkReach(scopes, asked); err != nil {
		return err
	}
	if len(asked) == 0 {
		asked = granted
	}
	_, err := c.rules(c.audiences(c.within(scopes, asked)))
	return err
}

// refreshable tells whether a refresh token goes with a grant: the client is
// registered for it and the person allowed access while away (OpenID Connect
// Core §11).
func (c *catalog) refreshable(client store.Client, scopes []string) bool {
	return hasScope(scopes, scopeOfflineAccess) && slices.Contains(client.GrantTypes, grantRefreshToken)
}

// answer makes the tokens of a grant as it stands now: scopes that the person's
// roles or the client's registration no longer cover are left out. asked
// narrows them further; empty: all.
func (s *server) answer(ctx context.Context, client store.Client, issuance store.Issuance, resources []string, t personTokens, asked []string) (*tokenResponse, error) {
	t.client, t.grant, t.user, t.issuedAt = client, issuance.Grant, issuance.User, issuance.IssuedAt
	if len(resources) == 0 {
		resources = t.grant.Audience
	}
	scopes := keep(t.grant.Scopes, func(scope string) bool {
		return s.catalog.mayAsk(client, scope) && (len(asked) == 0 || slices.Contains(asked, scope))
	})
	t.scopes = s.catalog.within(s.catalog.ofPerson(scopes, t.user.AllRoles), resources)
	if len(s.catalog.audiences(t.scopes)) == 0 {
		return nil, fail(codeInvalidGrant, "nothing is left of what was granted")
	}
	return s.mintPerson(ctx, t)
}

// spent is what a client learns when a code or refresh token is no good, always
// the same, and what the audit learns, which differs.
func (s *server) spent(ctx context.Context, what string, client store.Client, err error) error {
	var refused *failure
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, store.ErrConsumed):
		s.audit.replayed(ctx, what, client.ID, err)
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExpired), errors.Is(err, store.ErrRevoked), errors.Is(err, store.ErrConflict):
	default:
		return err
	}
	return fail(codeInvalidGrant, "the "+what+" is invalid, expired, revoked or used already").because(err)
}

func hasScope(scopes []string, scope string) bool { return slices.Contains(scopes, scope) }
