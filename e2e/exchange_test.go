package e2e

import (
	"net/url"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

const (
	exchangeGrant   = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
)

// Whatever ends a token ends those that were made from it by exchange (RFC
// 8693), at the gateway within a second of the issuer's answer: the feed
// names the parent alone, and the child says what it descends from. A child of
// another parent goes on.
func TestExchangedTokensEndWithTheirParent(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.token_exchange", []any{map[string]any{
			"client": "svc", "subject_audience": harness.OrdersAPI, "target": harness.ProfileAPI,
			"allow": []string{"delegation"}, "scopes": map[string]any{"read:orders": []string{"read:profile"}},
		}})
	}})
	svc := s.AddLogin(t, "svc", "https://svc.example/cb", []string{"read:profile"}, "--grant", "authorization_code", "--grant", exchangeGrant)
	exchange := func(parent string) string {
		return s.Tokens(t, svc, url.Values{
			"grant_type": {exchangeGrant}, "subject_token": {parent}, "subject_token_type": {accessTokenType}, "resource": {harness.ProfileAPI},
		}).Access
	}
	shop := s.AddShop(t, "shop", "read:orders")
	robot, ofRobot := s.Robot(t, "robot", "read:orders")
	_, ofClient := s.Robot(t, "client", "read:orders")
	_, untouched := s.Robot(t, "untouched", "read:orders")
	ofPerson := s.Login(t, shop, s.AddUser(t, "ada", "customer"), "offline_access", "read:orders")
	ofUser := s.Login(t, shop, s.AddUser(t, "grace", "customer"), "read:orders")
	bystander := exchange(untouched)
	for _, row := range []struct {
		name, parent string
		revoke       func()
	}{
		{"the parent itself", ofRobot, func() { s.Revoke(t, robot, ofRobot) }},
		{"a person's token itself", ofUser.Access, func() { s.Revoke(t, shop, ofUser.Access) }},
		{"the parent's client", ofClient, func() { s.CLI(t, "client", "revoke", "client") }},
		{"the parent's grant", ofPerson.Access, func() { s.Revoke(t, shop, ofPerson.Refresh) }},
	} {
		child := exchange(row.parent)
		if err := s.Says(200, "GET", "/profile", child)(); err != nil {
			t.Fatalf("%s, before it is revoked: %v", row.name, err)
		}
		row.revoke()
		answered := time.Now()
		harness.Eventually(t, time.Second, s.Says(401, "GET", "/profile", child))
		t.Logf("%s: the child was refused %v after the answer", row.name, time.Since(answered).Round(time.Millisecond))
		if answer := s.Post(t, "/oauth/token", svc, url.Values{
			"grant_type": {exchangeGrant}, "subject_token": {row.parent}, "subject_token_type": {accessTokenType}, "resource": {harness.ProfileAPI},
		}); answer.Status != 400 {
			t.Errorf("%s: the dead parent still gives children: %s", row.name, answer)
		}
	}
	if err := s.Says(200, "GET", "/profile", bystander)(); err != nil {
		t.Errorf("another parent's child: %v", err)
	}
}
