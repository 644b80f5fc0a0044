package issuer

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
)

// The answer is a form for the client's redirect URI and for nowhere else,
// which works with and without scripts.
func TestFormPost(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.submit(b.get(pathAuthorize+"?"+authorization("response_mode", "form_post").Encode()), "login", "alice", "password", rightWords)
	page = b.submit(page, "decision", "allow")
	answered := page.fields()
	if page.StatusCode != 200 || answered.Get("state") != "st" || answered.Get("iss") != s.url || !strings.Contains(page.body, `action="`+webCB+`"`) || !strings.Contains(page.body, `<button type="submit">`) {
		t.Fatalf("%d %v\n%s", page.StatusCode, answered, page.body)
	}
	if a := s.tokenAs("web", redemption(answered.Get("code"))); a.StatusCode != 200 {
		t.Errorf("redeeming: %s", a.body)
	}
	script := regexp.MustCompile(`<script>(.*)</script>`).FindStringSubmatch(page.body)
	if script == nil {
		t.Fatal("the page does not go on by itself")
	}
	sum := sha256.Sum256([]byte(script[1]))
	policy := page.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';",
		"form-action https:;", "base-uri 'none'", "frame-ancestors 'none'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Location": ""} {
		if page.Header.Get(name) != want {
			t.Errorf("%s: %q", name, page.Header.Get(name))
		}
	}
}

// Errors come the same way, and what the client sent cannot break out of the
// form.
func TestFormPostError(t *testing.T) {
	s := newSite(t)
	page := s.browser().get(pathAuthorize + "?" + authorization("response_mode", "form_post", "prompt", "none", "state", `"><script>alert(1)</script>`).Encode())
	if page.StatusCode != 200 || page.fields().Get("error") != codeLoginRequired || strings.Contains(page.body, "<script>alert") {
		t.Errorf("%d\n%s", page.StatusCode, page.body)
	}
	refused := s.browser().get(pathAuthorize + "?" + authorization("response_mode", "form_post", "scope", "admin").Encode())
	if refused.StatusCode != 200 || refused.fields().Get("error") != codeInvalidScope {
		t.Errorf("%d\n%s", refused.StatusCode, refused.body)
	}
}

// A redirect URI cannot add to the policy of the page.
func TestFormPostPolicyOfAnyRedirect(t *testing.T) {
	s := newSite(t)
	for uri, want := range map[string]string{
		"https://app.example/a;script-src%20*;b,c?x=y": "form-action https:;",
		"com.example.app:/cb":                          "form-action com.example.app: https:;",
	} {
		id := store.NewID("c")
		s.register(store.Client{ID: id, Type: store.Native, GrantTypes: []string{grantAuthorizationCode}, Scopes: []string{"read:orders"}, RedirectURIs: []string{uri}})
		page := s.browser().get(pathAuthorize + "?" + authorization("client_id", id, "redirect_uri", uri, "scope", "openid", "prompt", "none", "response_mode", "form_post").Encode())
		policy := page.Header.Get("Content-Security-Policy")
		if page.StatusCode != 200 || !strings.Contains(policy, want) || strings.Count(policy, "; script-src") != 1 {
			t.Errorf("%s: %d %q", uri, page.StatusCode, policy)
		}
		if strings.Contains(page.body, "ZgotmplZ") {
			t.Errorf("%s: the form leads nowhere", uri)
		}
	}
}
