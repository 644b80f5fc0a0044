package clients

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// app is where people come from and come back to: its callback leads on to
// another host, as many do.
type app struct {
	*httptest.Server
	came chan url.Values
}

func startApp(t *testing.T) *app {
	t.Helper()
	a := &app{came: make(chan url.Values, 8)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			a.came <- r.URL.Query()
			http.Redirect(w, r, strings.Replace(a.URL, "127.0.0.1", "localhost", 1)+"/home", http.StatusSeeOther)
			return
		}
		fmt.Fprintf(w, "<!doctype html><title>%s</title><p id=path>%s", "The Shop", r.URL.Path)
	}))
	t.Cleanup(a.Close)
	return a
}

// person sits at a real browser.
type person struct {
	*testing.T
	browser context.Context
}

func (p person) run(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	if err := chromedp.Do(p.browser, steps...); err != nil {
		p.stuck(err)
	}
}

// ask evaluates what the page knows.
func ask[T any](p person, action chromedp.Action[T]) T {
	p.Helper()
	value, err := chromedp.Run(p.browser, action)
	if err != nil {
		p.stuck(err)
	}
	return value
}

func (p person) stuck(err error) {
	p.Helper()
	where, _ := chromedp.Run(p.browser, chromedp.Location())
	page, _ := chromedp.Run(p.browser, chromedp.OuterHTML(chromedp.CSS("html")))
	p.Fatalf("%v at %s:\n%s", err, where, page)
}

// logIn types a login, unless the page has it already, and a password.
func (p person) logIn(login, password string) {
	p.Helper()
	p.run(chromedp.WaitVisible(chromedp.CSS("#password")))
	if login != "" {
		p.run(chromedp.SendKeys(chromedp.CSS("#login"), login))
	}
	p.run(chromedp.SendKeys(chromedp.CSS("#password"), password+"\r"))
}

// show checks and keeps the page that is shown, in every guise that it has.
func (p person) show(name string) {
	p.Helper()
	for guise, dress := range map[string]chromedp.Action[chromedp.Void]{
		"light": scheme("light"), "dark": scheme("dark"),
		"small": chromedp.EmulateViewport(320, 568),
	} {
		p.run(dress)
		p.accessible(name + " " + guise)
		harness.Screenshot(p, p.browser, name+"-"+guise)
		if ask(p, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)) {
			p.Errorf("%s %s has to be scrolled sideways", name, guise)
		}
		p.run(chromedp.EmulateViewport(1280, 800), scheme("light"))
	}
}

func scheme(value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
		})
		return err
	})
}

// accessible has axe look for what WCAG 2.2 AA forbids.
func (p person) accessible(page string) {
	p.Helper()
	axe, err := os.ReadFile(filepath.Join(harness.Root(), "e2e", "clients", "node", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		p.Fatal(err)
	}
	ask(p, chromedp.Evaluate[int](string(axe)+"; 0"))
	violations := ask(p, chromedp.Evaluate[[]string](`axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
		.then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.html).join(' ')))`, chromedp.EvalAwaitPromise))
	for _, v := range violations {
		p.Errorf("%s: %s", page, v)
	}
}

// A person logs in, consents and logs out in a real browser; each page is looked
// at in light, in dark and on a small screen.
func TestChromium(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	alice := s.AddUser(t, "alice", "customer")
	shop := startApp(t)
	c := s.AddLogin(t, "shop", shop.URL+"/callback", scopes)
	p := person{t, s.Chromium(t)}
	start := func() {
		a := s.Authorization(c, scopes...)
		a.Redirect = shop.URL + "/callback"
		p.run(chromedp.Navigate(s.URL("/oauth/authorize?" + a.Query().Encode())))
	}

	start()
	p.run(chromedp.WaitVisible(chromedp.CSS("#password")))
	p.show("login")
	p.logIn("alice", "wrong")
	p.run(chromedp.WaitVisible(chromedp.CSS("#problem")))
	p.show("login-wrong")
	p.logIn("", alice.Password)
	p.run(chromedp.WaitVisible(chromedp.CSS(`button[value=allow]`)))
	p.show("consent")
	p.run(chromedp.Click(chromedp.CSS(`button[value=deny]`)), chromedp.WaitVisible(chromedp.CSS("#path")))
	if got := <-shop.came; got.Get("error") != "access_denied" || got.Get("iss") != s.URL("") {
		t.Errorf("after denying: %v", got)
	}
	start() // the session is still there: consent again
	p.run(chromedp.Click(chromedp.CSS(`button[value=allow]`)), chromedp.WaitVisible(chromedp.CSS("#path")))
	if got := <-shop.came; got.Get("code") == "" {
		t.Errorf("after allowing: %v", got)
	}
	start() // nothing is left to ask
	if got := <-shop.came; got.Get("code") == "" {
		t.Errorf("the second time: %v", got)
	}

	p.run(chromedp.Navigate(s.URL("/oauth/end-session")), chromedp.WaitVisible(chromedp.CSS("button")))
	p.show("logout")
	p.run(chromedp.Click(chromedp.CSS("button")), chromedp.WaitNotPresent(chromedp.CSS("form")))
	p.show("logged-out")
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?client_id=nobody")))
	p.show("problem")
}

// The pages speak the browser's language, or the client's.
func TestChromiumSpeaks(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := s.AddShop(t, "shop", scopes...)
	p := person{t, s.Chromium(t)}
	p.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": "de-DE,de;q=0.9"}})
		return err
	}))
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?" + s.Authorization(c, scopes...).Query().Encode())))
	lang, title := ask(p, chromedp.Evaluate[string]("document.documentElement.lang")), ask(p, chromedp.Title())
	if lang != "de" || title != "Anmelden" {
		t.Errorf("the page is %q in %q", title, lang)
	}
	harness.Screenshot(t, p.browser, "login-german")
	query := s.Authorization(c, scopes...).Query()
	query.Set("ui_locales", "en")
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?" + query.Encode())))
	if title := ask(p, chromedp.Title()); title != "Log in" {
		t.Errorf("the client asked for English, the page is %q", title)
	}
}

// Scripts are not needed, and could not run.
func TestChromiumWithoutScripts(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	alice := s.AddUser(t, "alice", "customer")
	shop := startApp(t)
	c := s.AddLogin(t, "shop", shop.URL+"/callback", scopes)
	p := person{t, s.Chromium(t)}
	a := s.Authorization(c, scopes...)
	a.Redirect = shop.URL + "/callback"
	p.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	p.run(chromedp.Navigate(s.URL("/oauth/authorize?" + a.Query().Encode())))
	p.logIn("alice", alice.Password)
	p.run(chromedp.Click(chromedp.CSS(`button[value=allow]`)), chromedp.WaitVisible(chromedp.CSS("#path")))
	if got := <-shop.came; got.Get("code") == "" {
		t.Errorf("it came back with %v", got)
	}
	p.run(chromedp.Navigate(s.URL("/oauth/end-session")))
	if scripts := ask(p, chromedp.Evaluate[int](`document.scripts.length`)); scripts != 0 {
		t.Errorf("a page has %d scripts", scripts)
	}
	if strings.Contains(s.Process(harness.Issuer).Log(), alice.Password) {
		t.Error("the password is in the log")
	}
}
