package oauthclient

import (
	"context"
	"net/url"
	"strings"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
)

// Exchange trades an access token for one that opens another API in the name of
// the same subject (RFC 8693 §2.1). actor is the client's own access token,
// where it is to be named as who acts; empty: the issuer decides.
func (c *Client) Exchange(ctx context.Context, subject, actor string, scopes []string, resource string) (Tokens, error) {
	form := url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {subject}, "subject_token_type": {accessToken},
		"requested_token_type": {accessToken},
	}
	if actor != "" {
		form.Set("actor_token", actor)
		form.Set("actor_token_type", accessToken)
	}
	set(form, "scope", strings.Join(scopes, " "))
	set(form, "resource", resource)
	return c.token(ctx, form)
}
