package e2e

import (
	"net/url"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// What a thief of a code, or of a page, can do: nothing.
func TestTokensCodeFlowAttacks(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	shop, other := s.AddShop(t, "shop", "read:orders"), s.AddShop(t, "other", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	code := func(a harness.Authorization) string {
		return s.NewBrowser(t).LogIn(s.URL("/oauth/authorize?"+a.Query().Encode()), ada.Login, ada.Password).Query().Get("code")
	}
	expectInvalidGrant := func(what string, c harness.Client, form url.Values) {
		t.Helper()
		if answer := s.Post(t, "/oauth/token", c, form); answer.Status != 400 || answer.JSON(t)["error"] != "invalid_grant" {
			t.Errorf("%s: %s", what, answer)
		}
	}

	a := s.Authorization(shop, "read:orders")
	stolen := code(a)
	expectInvalidGrant("another client's code", other, a.Redemption(stolen))
	first := s.Tokens(t, shop, a.Redemption(stolen))
	s.Expect(t, 200, "GET", "/orders", first.Access)
	expectInvalidGrant("a code a second time", shop, a.Redemption(stolen))
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", first.Access)) // RFC 9700 §2.1.1

	b := s.Authorization(shop, "read:orders")
	wrong := b.Redemption(code(b))
	wrong.Set("code_verifier", a.Verifier)
	expectInvalidGrant("a wrong verifier", shop, wrong)

	for what, change := range map[string]func(url.Values){
		"no PKCE":    func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") },
		"plain PKCE": func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"implicit":   func(q url.Values) { q.Set("response_type", "token") },
	} {
		query := s.Authorization(shop, "read:orders").Query()
		change(query)
		browser := s.NewBrowser(t)
		browser.Open(s.URL("/oauth/authorize?" + query.Encode()))
		if away := browser.Follow(); away == nil || away.Query().Get("error") == "" || away.Query().Get("code") != "" {
			t.Errorf("%s: shown %s (%d), away %v", what, browser.URL, browser.Status, away)
		}
	}
	query := s.Authorization(shop, "read:orders").Query()
	query.Set("redirect_uri", "https://shop.example/callback/../evil")
	browser := s.NewBrowser(t)
	browser.Open(s.URL("/oauth/authorize?" + query.Encode()))
	if away := browser.Follow(); away != nil || browser.Status != 400 {
		t.Errorf("an unregistered redirect: %d, away %v", browser.Status, away)
	}

	// A login page taken to another browser is of no use there.
	c := s.Authorization(shop, "read:orders")
	victim, thief := s.NewBrowser(t), s.NewBrowser(t)
	victim.Open(s.URL("/oauth/authorize?" + c.Query().Encode()))
	victim.Follow()
	form := victim.Form()
	thief.Open(victim.URL.String())
	if thief.Follow() != nil || thief.Status == 200 {
		t.Errorf("another browser is shown the login: %d", thief.Status)
	}
	thief.URL = victim.URL
	thief.SubmitForm(form, "login", ada.Login, "password", ada.Password)
	if away := thief.Follow(); away != nil || thief.Status < 400 {
		t.Errorf("another browser went on with the login: %d, away %v", thief.Status, away)
	}
}
