package issuer

import (
	"net/http"
	"testing"
	"time"
)

// One row, one way to make a browser send our forms for somebody else.
func TestCSRF(t *testing.T) {
	s := newSite(t)
	from := func(site, origin string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site)
			r.Header.Set("Origin", origin)
		}
	}
	ours := from("same-origin", s.url)
	for _, row := range []struct {
		name   string
		pairs  []string
		change func(*http.Request)
		good   bool
	}{
		{"our own form", nil, ours, true},
		{"a client that says nothing", nil, func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }, true},
		{"no token", []string{"csrf", ""}, ours, false},
		{"another token", []string{"csrf", "x"}, ours, false},
		{"another site with the right token", nil, from("cross-site", "https://evil.example"), false},
		{"a sibling host", nil, from("same-site", "https://evil.localhost"), false},
		{"an opaque origin", nil, from("same-origin", "null"), false},
		{"site and origin disagree", nil, from("same-origin", "https://evil.example"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := s.browser()
			login := b.get(pathAuthorize + "?" + authorization("prompt", "consent").Encode())
			a := b.post("/oauth/login", login.fields(append([]string{"login", "alice", "password", rightWords}, row.pairs...)...), row.change)
			if accepted := a.StatusCode == http.StatusSeeOther; accepted != row.good || !row.good && a.StatusCode != 403 {
				t.Errorf("login: %d", a.StatusCode)
			}
			consent := b.submit(login, "login", "alice", "password", rightWords)
			a = b.post("/oauth/consent", consent.fields(append([]string{"decision", "allow"}, row.pairs...)...), row.change)
			if accepted := a.StatusCode == http.StatusSeeOther; accepted != row.good || !row.good && a.StatusCode != 403 {
				t.Errorf("consent: %d", a.StatusCode)
			}
			end := b.get("/oauth/end-session")
			a = b.post("/oauth/end-session", end.fields(row.pairs...), row.change)
			if accepted := a.StatusCode == http.StatusSeeOther; accepted != row.good {
				t.Errorf("logout: %d", a.StatusCode)
			}
		})
	}
}

// A consent form holds for the person who saw it.
func TestConsentFormIsBoundToTheLogin(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	request := pathAuthorize + "?" + authorization("scope", "openid read:orders").Encode()
	consent := b.submit(b.get(request), "login", "alice", "password", rightWords)
	s.clock.advance(time.Second)
	other := b.get(pathAuthorize + "?" + authorization("prompt", "login", "scope", "openid read:orders").Encode())
	b.submit(other, "login", "bob", "password", rightWords)
	a := b.post("/oauth/consent", consent.fields("decision", "allow"))
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("alice's form gives bob's consent: %d", a.StatusCode)
	}
	if _, err := s.server.store.Consent(t.Context(), "usr_bob", "web"); err == nil {
		t.Error("bob's consent is stored")
	}
}
