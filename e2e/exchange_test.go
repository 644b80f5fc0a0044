package e2e

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
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
	ada := s.AddUser(t, "ada", "customer")
	ofDevice := deviceToken(t, s, ada)
	shop := s.AddShop(t, "shop", "read:orders")
	robot, ofRobot := s.Robot(t, "robot", "read:orders")
	_, ofClient := s.Robot(t, "client", "read:orders")
	_, untouched := s.Robot(t, "untouched", "read:orders")
	ofPerson := s.Login(t, shop, ada, "offline_access", "read:orders")
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
	// The command line gets a person's token by a code, and trades it.
	parent := ofDevice()
	s.Expect(t, 200, "GET", "/orders", parent)
	out := s.TryCLI(t, parent+"\n", "token", "exchange", "--client", svc.ID, "--secret-file", filepath.Join(s.Dir, "data", "svc.secret"), "--resource", harness.ProfileAPI)
	s.Expect(t, 200, "GET", "/profile", strings.TrimSpace(out.Stdout))
	if person, actor := verify(t, s, parent), verify(t, s, strings.TrimSpace(out.Stdout)); actor.Subject() != person.Subject() || actor.ClientID() != svc.ID {
		t.Errorf("the token that was traded is %s's for %s: %s", actor.ClientID(), actor.Subject(), out.Stderr)
	}
}

var codeAddress = regexp.MustCompile(`https://\S+user_code=\S+`)

// deviceToken lets a person allow what `gatehouse token get --device` shows; the
// token comes with the device's next poll.
func deviceToken(t *testing.T, s *harness.System, p harness.Person) (token func() string) {
	t.Helper()
	s.CLI(t, "client", "add", "--id", "cli", "--type", "native", "--grant", deviceGrant, "--scope", "read:orders")
	device := s.Launch(t, "device", exec.Command(harness.Binary(t), "token", "get", "--device", "--client", "cli", "--scope", "read:orders", "--config", s.ConfigPath("")))
	address := ""
	harness.Eventually(t, 10*time.Second, func() error {
		if address = codeAddress.FindString(device.Log()); address == "" {
			return fmt.Errorf("it shows no address: %s", device.Log())
		}
		return nil
	})
	b := s.NewBrowser(t)
	b.Open(address)
	b.Follow()
	b.Submit("login", p.Login, "password", p.Password)
	b.Follow()
	b.Submit() // the code
	b.Follow()
	b.Submit("decision", "allow")
	b.Follow()
	return func() string {
		if !device.Wait(20 * time.Second) {
			t.Fatalf("the device still waits: %s", device.Log())
		}
		return strings.TrimSpace(device.Out())
	}
}
