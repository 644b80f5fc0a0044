package issuer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// accessToken is what an access token says.
type accessToken struct {
	subject string
	// client is whom it is issued to.
	client   store.Client
	scopes   []string
	audience []string
	issuedAt time.Time
	// person is what only people's tokens have; nil for a client's own.
	person *personClaims
	// notAfter ends the token early; zero: it does not.
	notAfter time.Time
	// descent is where an exchanged token comes from; nil for others.
	descent *descent
}

type personClaims struct {
	user      store.User
	sessionID string
	grantID   string
	authTime  time.Time
}

// accessClaims are RFC 9068 §2.2 with our own roles, sid and grant_id.
type accessClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  any      `json:"aud"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	Roles     []string `json:"roles,omitempty"`
	ID        string   `json:"jti"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	SessionID string   `json:"sid,omitempty"`
	GrantID   string   `json:"grant_id,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`

	// Of exchanged tokens alone (RFC 8693 §4).
	SubjectType string           `json:"subject_type,omitempty"`
	Act         map[string]any   `json:"act,omitempty"`
	MayAct      any              `json:"may_act,omitempty"`
	DerivedFrom []token.Ancestor `json:"derived_from,omitempty"`
	// Confirmation is RFC 7800 §3.1.
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// mintAccess signs an access token, bound to what the request's sender proved
// to hold, and has it verified by the rules that
// gateways verify with, before it leaves.
func (s *server) mintAccess(ctx context.Context, t accessToken) (signed string, expiresAt time.Time, err error) {
	rules, err := s.catalog.rules(t.audience)
	if err != nil {
		return "", expiresAt, err
	}
	expiresAt = t.issuedAt.Add(shorter(rules.lifetime, t.client.AccessTokenLifetime))
	if !t.notAfter.IsZero() && t.notAfter.Before(expiresAt) {
		expiresAt = t.notAfter
	}
	claims := accessClaims{
		Issuer: s.config.URL, Subject: t.subject, Audience: singleOrList(t.audience),
		ClientID: t.client.ID, Scope: strings.Join(t.scopes, " "), ID: store.NewID(""),
		IssuedAt: t.issuedAt.Unix(), ExpiresAt: expiresAt.Unix(),
		Confirmation: confirmationOf(holderOf(ctx)),
	}
	if p := t.person; p != nil {
		claims.Roles, claims.SessionID, claims.GrantID, claims.AuthTime = p.user.AllRoles, p.sessionID, p.grantID, unixOf(p.authTime)
	}
	if d := t.descent; d != nil {
		claims.Act, claims.MayAct, claims.DerivedFrom = d.act, d.mayAct, d.ancestors
		if d.machine {
			claims.SubjectType = token.SubjectClient
		}
	}
	payload, err := encodeClaims(claims, rules.mapped(t))
	if err != nil {
		return "", expiresAt, fmt.Errorf("encoding access token claims: %w", err)
	}
	if signed, err = s.tokens.SignAccessToken(ctx, rules.algorithm, payload); err != nil {
		return "", expiresAt, fmt.Errorf("signing an access token: %w", err)
	}
	return signed, expiresAt, nil
}

// unixOf is a time in a claim; 0, which is left out, where there is none.
func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// shorter is the lifetime, or the client's own where that is set and shorter.
func shorter(lifetime, own time.Duration) time.Duration {
	if own > 0 {
		return min(lifetime, own)
	}
	return lifetime
}

// encodeClaims adds mapped claims to the standard ones. No name can stand in
// both (isReservedClaim); if one did, the strict parser would refuse the token
// before it leaves.
func encodeClaims(claims accessClaims, mapped map[string]any) ([]byte, error) {
	payload, err := json.Marshal(claims)
	if err != nil || len(mapped) == 0 {
		return payload, err
	}
	rest, err := json.Marshal(mapped)
	if err != nil {
		return nil, err
	}
	return append(append(payload[:len(payload)-1], ','), rest[1:]...), nil
}

// singleOrList writes one audience as a string and more as an array (RFC 7519
// §4.1.3).
func singleOrList(audience []string) any {
	if len(audience) == 1 {
		return audience[0]
	}
	return audience
}

// personTokens are what one answer to a person's client is made from.
type personTokens struct {
	client   store.Client
	grant    store.Grant
	user     store.User
	scopes   []string
	issuedAt time.Time
	// nonce goes into the ID token of a code's redemption only (OpenID Connect
	// Core §12.2).
	nonce string
	// refresh is the plain refresh token; empty: none.
	refresh string
}

// mintPerson makes the answer: access token, refresh token, and an ID token
// where openid was granted.
func (s *server) mintPerson(ctx context.Context, t personTokens) (*tokenResponse, error) {
	signed, expiresAt, err := s.mintAccess(ctx, accessToken{
		subject: t.grant.UserID, client: t.client,
		scopes: t.scopes, audience: s.catalog.audiences(t.scopes),
		issuedAt: t.issuedAt, notAfter: t.grant.ExpiresAt,
		person: &personClaims{user: t.user, sessionID: t.grant.SessionID, grantID: t.grant.ID, authTime: t.grant.AuthTime},
	})
	if err != nil {
		return nil, err
	}
	response := bearerResponse(signed, expiresAt.Sub(t.issuedAt), t.scopes)
	response.RefreshToken = t.refresh
	if !hasScope(t.scopes, scopeOpenID) {
		return response, nil
	}
	if response.IDToken, err = s.mintID(ctx, t, signed); err != nil {
		return nil, err
	}
	return response, nil
}

func (s *server) mintID(ctx context.Context, t personTokens, access string) (string, error) {
	payload, err := json.Marshal(idTokenClaims(s.config.URL, t, access, idTokenAlgorithm(t.client), s.config.IDTokenLifetime))
	if err != nil {
		return "", fmt.Errorf("encoding ID token claims: %w", err)
	}
	signed, err := s.signFor(ctx, t.client, "JWT", payload)
	if err != nil {
		return "", fmt.Errorf("signing an ID token: %w", err)
	}
	return signed, nil
}

// signFor signs what is for a client's own eyes: ID tokens and logout tokens.
func (s *server) signFor(ctx context.Context, client store.Client, typ string, claims []byte) (string, error) {
	return s.keys.Sign(ctx, idTokenAlgorithm(client), typ, claims)
}

func idTokenAlgorithm(client store.Client) string {
	return cmp.Or(client.IDTokenAlgorithm, keys.ES256)
}
