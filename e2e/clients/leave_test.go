package clients

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// A client logs a person out by POST from its own site. The browser sends no
// Lax cookies with that, and the session ends all the same, everywhere.
func TestChromiumLogsOutByPOST(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	alice := s.AddUser(t, "alice", "customer")
	shop := startApp(t)
	c := s.AddLogin(t, "shop", shop.URL+"/callback", scopes, "--post-logout-redirect-uri", shop.URL+"/bye")
	p := person{t, s.Chromium(t)}
	a := s.Authorization(c, scopes...)
	a.Redirect = shop.URL + "/callback"
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?" + a.Query().Encode())))
	p.logIn("alice", alice.Password)
	p.run(chromedp.Click(chromedp.CSS(`button[value=allow]`)), chromedp.WaitVisible(chromedp.CSS("#path")))
	tokens := s.Tokens(t, c, a.Redemption((<-shop.came).Get("code")))
	s.Expect(t, 200, "GET", "/orders", tokens.Access)

	send := `(() => {
		const form = document.createElement("form");
		form.method = "post"; form.action = %q;
		for (const [name, value] of new URLSearchParams(%q)) {
			const field = document.createElement("input");
			field.type = "hidden"; field.name = name; field.value = value; form.append(field);
		}
		document.body.append(form); form.submit(); return 0;
	})()`
	fields := url.Values{"id_token_hint": {tokens.ID}, "post_logout_redirect_uri": {shop.URL + "/bye"}, "state": {"x"}}.Encode()
	ask(p, chromedp.Evaluate[int](fmt.Sprintf(send, s.URL("/oauth/end-session"), fields)))
	harness.Eventually(t, 10*time.Second, func() error {
		where, err := chromedp.Run(p.browser, chromedp.Location())
		if err == nil && where != shop.URL+"/bye?state=x" {
			err = fmt.Errorf("the browser is at %s", where)
		}
		return err
	})
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", tokens.Access))
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?"+a.Query().Encode())), chromedp.WaitVisible(chromedp.CSS("#password")))
}
