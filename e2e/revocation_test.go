package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// linkFeeds puts a link that a test can cut between the authorizers and the
// issuer's feed.
func linkFeeds(t *testing.T, into **harness.Link) func(*harness.System, harness.Config) {
	return func(s *harness.System, c harness.Config) {
		*into = harness.NewLink(t, s.Dir+"/feed-link.sock", s.Socket("feed"))
		own := s.OwnIssuer(c)
		own["feed"] = "unix:" + (*into).Path
		c.Set("authz.issuers", []any{own})
	}
}

// witnesses are asked whether a token is good: the gate, and each authorizer by
// itself.
type witnesses struct {
	t        *testing.T
	system   *harness.System
	checkers []*harness.Checker
	rule     map[string]string
}

func newWitnesses(t *testing.T, s *harness.System) *witnesses {
	t.Helper()
	w := &witnesses{t: t, system: s, rule: harness.SignRule(t, s.Rule(s.URL("")), s.RuleKey(t))}
	for i := range len(s.Config().Get("controlplane.authz").([]string)) {
		w.checkers = append(w.checkers, s.NewChecker(t, harness.AuthzName(i)))
	}
	return w
}

// say is the condition that all of them answer a token with a status.
func (w *witnesses) say(status int, access string) func() error {
	return func() error {
		for i, checker := range w.checkers {
			response, err := checker.Check(w.t, access, w.rule)
			if err != nil {
				return err
			}
			if got := harness.Verdict(response); got != status {
				return fmt.Errorf("%s says %d, want %d", harness.AuthzName(i), got, status)
			}
		}
		return w.system.Says(status, "GET", "/orders", access)()
	}
}

// Whatever is revoked, in whatever way, is refused within a second, at the
// gate and by each authorizer asked directly, where each has seen it before.
func TestRevocationWithinASecond(t *testing.T) {
	s := harness.Start(t, harness.Options{Authorizers: 2})
	shop := s.AddShop(t, "shop", "read:orders")
	login := func(name string) (harness.Person, harness.Tokens) {
		person := s.AddUser(t, name, "customer")
		return person, s.Login(t, shop, person, "offline_access", "read:orders")
	}
	everywhere := newWitnesses(t, s).say

	robot, token := s.Robot(t, "robot", "read:orders")
	client, ofClient := s.Robot(t, "client", "read:orders")
	_, ofRemoved := s.Robot(t, "removed", "read:orders")
	ada, ofUser := login("ada")
	_, ofGrant := login("grace")
	mary, ofPassword := login("mary")
	_, bystander := s.Robot(t, "bystander", "read:orders")
	for _, row := range []struct {
		name, access string
		revoke       func()
	}{
		{"a token", token, func() { s.Revoke(t, robot, token) }},
		{"a grant, by its refresh token", ofGrant.Access, func() { s.Revoke(t, shop, ofGrant.Refresh) }},
		{"a user", ofUser.Access, func() { s.CLI(t, "user", "revoke", ada.Login) }},
		{"a client", ofClient, func() { s.CLI(t, "client", "revoke", client.ID) }},
		{"a client that is removed", ofRemoved, func() { s.CLI(t, "client", "remove", "removed") }},
		{"a user with a new password", ofPassword.Access, func() { s.CLIWithInput(t, "correct horse battery staple\n", "user", "password", mary.Login) }},
	} {
		if err := everywhere(200, row.access)(); err != nil {
			t.Fatalf("%s, before it is revoked: %v", row.name, err)
		}
		row.revoke()
		answered := time.Now()
		harness.Eventually(t, time.Second, everywhere(401, row.access))
		t.Logf("%s: refused everywhere %v after the answer", row.name, time.Since(answered).Round(time.Millisecond))
	}
	if err := everywhere(200, bystander)(); err != nil {
		t.Errorf("a token that nobody revoked: %v", err)
	}
	// A revoked client and user can start over, within the same second.
	if err := everywhere(200, s.Token(t, client, "read:orders"))(); err != nil {
		t.Errorf("a new token of a client that was revoked: %v", err)
	}
	if err := everywhere(200, s.Login(t, shop, ada, "read:orders").Access)(); err != nil {
		t.Errorf("a new login of a user who was revoked: %v", err)
	}
}

// Logging out at the issuer ends the session's tokens.
func TestRevocationBySession(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	shop := s.AddShop(t, "shop", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	browser := s.NewBrowser(t)
	a := s.Authorization(shop, "openid", "read:orders")
	back := browser.LogIn(s.URL("/oauth/authorize?"+a.Query().Encode()), ada.Login, ada.Password)
	tokens := s.Tokens(t, shop, a.Redemption(back.Query().Get("code")))
	elsewhere := s.Login(t, shop, ada, "read:orders").Access
	s.Expect(t, 200, "GET", "/orders", tokens.Access)

	browser.Open(s.URL("/oauth/end-session?" + url.Values{"id_token_hint": {tokens.ID}}.Encode()))
	if away := browser.Follow(); away == nil && strings.Contains(browser.Page, "<form") {
		browser.Submit()
		browser.Follow()
	}
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", tokens.Access))
	s.Expect(t, 200, "GET", "/orders", elsewhere) // another session of the same person
}

// A break of the feed loses nothing: what was revoked meanwhile is refused
// within a second of its return, without the authorizer starting over.
func TestRevocationFeedResumes(t *testing.T) {
	var link *harness.Link
	s := harness.Start(t, harness.Options{Configure: linkFeeds(t, &link)})
	robot, before := s.Robot(t, "robot", "read:orders")
	meanwhile := s.Token(t, robot, "read:orders")
	after := s.Token(t, robot, "read:orders")
	s.Revoke(t, robot, before)
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", before))

	link.Cut()
	s.Expect(t, 200, "GET", "/orders", meanwhile)
	s.Revoke(t, robot, meanwhile)
	// The control: through the cut, nothing can be known, and within the
	// revocation_max_age of 10 minutes the gate stays open.
	harness.During(t, time.Second, s.Says(200, "GET", "/orders", meanwhile))
	link.Mend(t)
	harness.Eventually(t, 2*time.Second, s.Says(401, "GET", "/orders", meanwhile))
	s.Expect(t, 401, "GET", "/orders", before)
	s.Expect(t, 200, "GET", "/orders", after)
	s.Revoke(t, robot, after)
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", after))
}

// However long the feed was away, from its return on a revocation is enforced
// within a second again: trying again must not have become rare.
func TestRevocationAfterALongBreak(t *testing.T) {
	var link *harness.Link
	s := harness.Start(t, harness.Options{Configure: linkFeeds(t, &link)})
	robot, access := s.Robot(t, "robot", "read:orders")
	link.Cut()
	harness.During(t, 8*time.Second, s.Says(200, "GET", "/orders", access))
	link.Mend(t)
	s.Revoke(t, robot, access)
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", access))
}

// Staler than a route's revocation_max_age: 503 on that route alone, and back
// as soon as the feed is.
func TestRevocationStaleness(t *testing.T) {
	var link *harness.Link
	configure := linkFeeds(t, &link)
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		configure(s, c)
		c.Route("orders-list")["revocation_max_age"] = "2s"
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	// While the feed runs, the route never becomes stale.
	harness.During(t, 3*time.Second, s.Says(200, "GET", "/orders", access))

	cut := time.Now()
	link.Cut()
	s.Expect(t, 200, "GET", "/orders", access)
	harness.Eventually(t, 4*time.Second, s.Says(503, "GET", "/orders", access))
	if age := time.Since(cut); age < 1500*time.Millisecond {
		t.Errorf("503 after %v, long before the 2 s", age)
	}
	s.Expect(t, 200, "GET", "/orders/7", access) // its limit is 10 minutes
	s.Expect(t, 503, "GET", "/orders", access)
	link.Mend(t)
	harness.Eventually(t, 2*time.Second, s.Says(200, "GET", "/orders", access))
}

// A feed whose connection stands but which says nothing any more is as stale as
// a broken one.
func TestRevocationSilence(t *testing.T) {
	var foreign *harness.Foreign
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		foreign = s.NewForeign(t)
		c.Set("authz.issuers", []any{s.OwnIssuer(c), foreign.Trusted()})
		c.AddRoute(harness.Route{
			"id": "foreign", "path": "/foreign", "service": "orders", "audience": harness.OrdersAPI,
			"issuers": []string{harness.ForeignURL}, "scopes": []string{"read:orders"}, "revocation_max_age": "2s",
		})
	}})
	access := foreign.Sign(foreign.Header(), foreign.Claims())
	_, own := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/foreign", access)
	foreign.Silence(true)
	harness.Eventually(t, 4*time.Second, s.Says(503, "GET", "/foreign", access))
	s.Expect(t, 200, "GET", "/orders", own) // one issuer's trouble is not another's
	foreign.Silence(false)
	harness.Eventually(t, 2*time.Second, s.Says(200, "GET", "/foreign", access))
}
