package backchannel

import (
	"context"
	"encoding/json"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// logoutType is the typ of logout tokens, by which nothing else takes them for
// its own (§2.4, RFC 8725 §3.11).
const logoutType = "logout+jwt"

// event is what a logout token says has happened (§2.4).
const event = "http://schemas.openid.net/event/backchannel-logout"

// logoutClaims are §2.4. There is no nonce: with one it could pass for an ID
// token.
type logoutClaims struct {
	Issuer    string              `json:"iss"`
	Subject   string              `json:"sub"`
	Audience  string              `json:"aud"`
	IssuedAt  int64               `json:"iat"`
	ExpiresAt int64               `json:"exp"`
	ID        string              `json:"jti"`
	Events    map[string]struct{} `json:"events"`
	SessionID string              `json:"sid,omitempty"`
}

// token is a logout token for one attempt.
func (s *Sender) token(ctx context.Context, client store.Client, l store.Logout) (string, error) {
	now := s.deps.Now()
	claims, err := json.Marshal(logoutClaims{
		Issuer: s.config.Issuer, Subject: l.UserID, Audience: l.ClientID,
		IssuedAt: now.Unix(), ExpiresAt: now.Add(tokenLife).Unix(),
		ID: store.NewID(""), Events: map[string]struct{}{event: {}}, SessionID: l.SessionID,
	})
	if err != nil {
		return "", fmt.Errorf("encoding a logout token: %w", err)
	}
	signed, err := s.deps.Sign(ctx, client, logoutType, claims)
	if err != nil {
		return "", fmt.Errorf("signing a logout token: %w", err)
	}
	return signed, nil
}
