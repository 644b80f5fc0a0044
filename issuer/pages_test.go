package issuer

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every page has the headers that keep it from being framed, cached, sniffed
// and talked into loading or running anything.
func TestPageHeaders(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	login := b.get(pathAuthorize + "?" + authorization().Encode())
	wrong := b.submit(login, "login", "alice", "password", "no")
	consent := b.submit(login, "login", "alice", "password", rightWords)
	policy := regexp.MustCompile(`^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; form-action 'self'( https:)?; base-uri 'none'; frame-ancestors 'none'$`)
	for name, page := range map[string]answer{
		"login": login, "wrong password": wrong, "consent": consent, "logout": b.get("/oauth/end-session"),
		"nobody to log out": s.browser().get("/oauth/end-session"), "a lost flow": b.get("/oauth/login?flow=x"),
		"a bad request": b.get(pathAuthorize), "a forged form": b.post("/oauth/login", login.fields("csrf", "x")),
	} {
		want := map[string]string{
			"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8", "Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin": "", "Set-Cookie": page.Header.Get("Set-Cookie"),
		}
		for header, value := range want {
			if got := page.Header.Get(header); got != value {
				t.Errorf("%s: %s is %q", name, header, got)
			}
		}
		if got := page.Header.Get("Content-Security-Policy"); !policy.MatchString(got) {
			t.Errorf("%s: Content-Security-Policy is %q", name, got)
		}
		for _, forbidden := range []string{"<script", "javascript:", "onclick", "onload", " style=", "src=", "http://"} {
			if strings.Contains(page.body, forbidden) {
				t.Errorf("%s has %q", name, forbidden)
			}
		}
		for _, wanted := range []string{`<html lang="en">`, "<main>", "<h1>", "<title>", "viewport", "prefers-color-scheme: dark"} {
			if !strings.Contains(page.body, wanted) {
				t.Errorf("%s lacks %q", name, wanted)
			}
		}
	}
	if strings.Count(login.body, "<label for=") != 2 || !strings.Contains(wrong.body, `role="alert"`) || !strings.Contains(wrong.body, `aria-invalid="true"`) {
		t.Error("the login form does not say what its fields and its problem are")
	}
}

// What machines get has headers as well.
func TestMachineHeaders(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{pathToken, pathRevoke, pathIntrospect, pathUserinfo, pathKeys, pathDiscovery, "/nothing"} {
		a := s.request("POST", path, "")
		if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
}

// Paths and methods are matched exactly.
func TestRouting(t *testing.T) {
	s := newSite(t)
	for target, status := range map[string]int{
		"GET /": 404, "GET /oauth": 404, "GET /oauth/": 404, "GET /oauth/keys/": 404, "GET //oauth/keys": 404, "GET /oauth/./keys": 404,
		"GET /OAUTH/keys": 404, "GET /oauth/%6beys": 404, "GET /oauth/keys": 200, "HEAD /oauth/keys": 200, "POST /oauth/keys": 405,
		"DELETE /oauth/token": 405, "OPTIONS /oauth/token": 405, "PUT /oauth/userinfo": 405, "GET /healthz": 404, "GET /oauth/authorize/callback": 404,
		"GET /.well-known/openid-configuration/x": 404, "POST /.well-known/openid-configuration": 405, "PATCH /oauth/login": 405,
	} {
		method, path, _ := strings.Cut(target, " ")
		if a := s.request(method, path, ""); a.StatusCode != status {
			t.Errorf("%s: %d, want %d", target, a.StatusCode, status)
		}
	}
}

// The form's flow can be acted on once: afterwards the browser has it no more.
func TestFlowEndsWithItsAnswer(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	consent := b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", "alice", "password", rightWords)
	if code := b.ended(b.submit(consent, "decision", "allow")).Query().Get("code"); code == "" {
		t.Fatal("no code")
	}
	if a := b.post("/oauth/consent", consent.fields("decision", "allow")); a.StatusCode != 400 {
		t.Errorf("the form works again: %d", a.StatusCode)
	}
}

func TestFlowTakesTooLong(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	login := b.get(pathAuthorize + "?" + authorization().Encode())
	s.clock.advance(15 * time.Minute)
	if a := b.submit(login, "login", "alice", "password", rightWords); a.StatusCode != 400 || !strings.Contains(a.body, "This login is over") {
		t.Errorf("answered %d", a.StatusCode)
	}
}

// A session planted before the login is worth nothing after it, and each login
// has a new secret.
func TestSessionChangesAtLogin(t *testing.T) {
	s := newSite(t)
	at, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	b.http.Jar.SetCookies(at, []*http.Cookie{{Name: "__Host-gatehouse-session", Value: "planted", Path: "/", Secure: true}})
	b.allow("alice", authorization())
	first := b.session()
	s.clock.advance(time.Second)
	b.allow("alice", authorization("prompt", "login"))
	second := b.session()
	if first == "planted" || first == second || second == "" {
		t.Errorf("sessions %q, %q", first, second)
	}
	for name, value := range map[string]string{"planted": "planted", "the first login's": first} {
		a := s.request("GET", pathAuthorize+"?"+authorization("prompt", "none").Encode(), "", header("Cookie", "__Host-gatehouse-session="+value))
		if !strings.Contains(a.Header.Get("Location"), "error=login_required") {
			t.Errorf("the session %s is alive", name)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.allow("alice", authorization())
	s.clock.advance(s.server.config.SessionLifetime)
	if page := b.get(pathAuthorize + "?" + authorization().Encode()); !strings.Contains(page.body, `name="password"`) {
		t.Errorf("after the session's life: %d", page.StatusCode)
	}
}

// A wrong password and an unknown login get the same page.
func TestWrongPasswordTellsNothing(t *testing.T) {
	s := newSite(t)
	pages := map[string]string{}
	for _, login := range []string{"alice", "nobody", "not a login"} {
		b := s.browser()
		page := b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", login, "password", "wrong")
		if page.StatusCode != http.StatusForbidden || page.Header.Get("Location") != "" {
			t.Errorf("%s: %d", login, page.StatusCode)
		}
		text := strings.ReplaceAll(page.body, login, "LOGIN")
		pages[login] = hidden.ReplaceAllString(text, "")
	}
	if pages["alice"] != pages["nobody"] || pages["alice"] != pages["not a login"] {
		t.Error("the pages differ")
	}
	if strings.Contains(s.log.String(), "not a login") {
		t.Error("what was typed is in the log; it may have been a password")
	}
}

// Guessing is slowed down without locking the person out.
func TestLoginThrottle(t *testing.T) {
	s := newSite(t)
	try := func(address, password string) int {
		b := s.browser()
		page := b.get(pathAuthorize + "?" + authorization().Encode())
		a := b.post("/oauth/login", page.fields("login", "alice", "password", password), header("X-Forwarded-For", "6.6.6.6, "+address))
		if (a.StatusCode == http.StatusTooManyRequests) != (a.Header.Get("Retry-After") != "") {
			t.Errorf("status %d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
		}
		return a.StatusCode
	}
	for range 5 {
		if status := try("203.0.113.1", "wrong"); status != http.StatusForbidden {
			t.Fatalf("a wrong password: %d", status)
		}
	}
	if status := try("203.0.113.1", rightWords); status != http.StatusTooManyRequests {
		t.Errorf("the sixth guess: %d", status)
	}
	if status := try("198.51.100.7", rightWords); status != http.StatusSeeOther {
		t.Errorf("the person, from elsewhere: %d", status)
	}
	s.clock.advance(30 * time.Second)
	if status := try("203.0.113.1", rightWords); status != http.StatusSeeOther {
		t.Errorf("after a while: %d", status)
	}
	if log := s.log.String(); !strings.Contains(log, "address=203.0.113.1") || !strings.Contains(log, "result=throttled") {
		t.Error("the attempts were not recorded")
	}
}

// Names of clients, people and logins are text on the pages, never markup.
func TestPagesEscape(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization("login_hint", `"><script>alert(1)</script>`).Encode())
	if strings.Contains(page.body, "<script") || !strings.Contains(page.body, "&lt;script&gt;") {
		t.Error("the login hint is markup")
	}
}
