package issuer

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

const testVerifier = "dBjftJeZ4CVP-mBIGYzR2m0PqwyqWCCOwRBNLaT2N5M"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorization is a sound request of client web; pairs change it, an empty
// value takes a parameter away.
func authorization(pairs ...string) url.Values {
	v := url.Values{
		"client_id": {"web"}, "redirect_uri": {webCB}, "response_type": {"code"}, "scope": {"openid profile email offline_access read:orders"},
		"state": {"st"}, "nonce": {"no"}, "code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"},
	}
	return with(v, pairs...)
}

func with(v url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return v
}

// browser is a person's browser: it keeps cookies and says where its forms
// come from.
type browser struct {
	s    *site
	http *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	client := *s.http
	client.Jar = jar
	return &browser{s, &client}
}

// session is the secret in the browser's session cookie.
func (b *browser) session() string {
	b.s.Helper()
	at, err := url.Parse(b.s.url)
	if err != nil {
		b.s.Fatal(err)
	}
	for _, cookie := range b.http.Jar.Cookies(at) {
		if cookie.Name == "__Host-gatehouse-session" {
			return cookie.Value
		}
	}
	return ""
}

// get goes to a path or URL and follows what leads on within the issuer.
func (b *browser) get(target string) answer {
	b.s.Helper()
	r, err := http.NewRequest("GET", b.s.absolute(target), nil)
	if err != nil {
		b.s.Fatal(err)
	}
	return b.follow(b.s.do(b.http, r))
}

func (s *site) absolute(target string) string {
	if strings.HasPrefix(target, "/") {
		return s.url + target
	}
	return target
}

func (b *browser) follow(a answer) answer {
	b.s.Helper()
	for range 10 {
		location := a.Header.Get("Location")
		if !strings.HasPrefix(location, "/") && !strings.HasPrefix(location, b.s.url) {
			return a
		}
		r, err := http.NewRequest("GET", b.s.absolute(location), nil)
		if err != nil {
			b.s.Fatal(err)
		}
		a = b.s.do(b.http, r)
	}
	b.s.Fatal("the redirects do not end")
	return a
}

// post sends a form as a page of the issuer would.
func (b *browser) post(path string, fields url.Values, change ...func(*http.Request)) answer {
	b.s.Helper()
	r, err := http.NewRequest("POST", b.s.url+path, strings.NewReader(fields.Encode()))
	if err != nil {
		b.s.Fatal(err)
	}
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", b.s.url)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, f := range change {
		f(r)
	}
	return b.s.do(b.http, r)
}

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
	action = regexp.MustCompile(`<form method="post" action="([^"]+)">`)
)

// fields are the hidden fields of a page's form.
func (a answer) fields(pairs ...string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(a.body, -1) {
		v.Set(m[1], m[2])
	}
	return with(v, pairs...)
}

// submit fills in the page's form and sends it.
func (b *browser) submit(page answer, pairs ...string) answer {
	b.s.Helper()
	found := action.FindStringSubmatch(page.body)
	if found == nil {
		b.s.Fatalf("status %d: there is no form on the page %q", page.StatusCode, page.body)
	}
	return b.follow(b.post(found[1], page.fields(pairs...)))
}

// allow goes through login and consent, whichever are shown, and is the URL
// that the browser ends at.
func (b *browser) allow(login string, request url.Values) *url.URL {
	b.s.Helper()
	page := b.get(pathAuthorize + "?" + request.Encode())
	if strings.Contains(page.body, `name="password"`) {
		page = b.submit(page, "login", login, "password", rightWords)
	}
	if strings.Contains(page.body, `value="allow"`) {
		page = b.submit(page, "decision", "allow")
	}
	return b.ended(page)
}

// ended is where the browser was sent at the end of a flow.
func (b *browser) ended(a answer) *url.URL {
	b.s.Helper()
	if a.StatusCode != http.StatusSeeOther {
		b.s.Fatalf("status %d, not a redirect: %s", a.StatusCode, a.body)
	}
	location, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		b.s.Fatal(err)
	}
	return location
}

// code is a fresh authorization code of a sound request by alice.
func (s *site) code(pairs ...string) string {
	s.Helper()
	location := s.browser().allow("alice", authorization(pairs...))
	code := location.Query().Get("code")
	if code == "" {
		s.Fatalf("no code in %s", location)
	}
	return code
}

// redemption is the token request that belongs to authorization().
func redemption(code string, pairs ...string) url.Values {
	return with(url.Values{"grant_type": {grantAuthorizationCode}, "code": {code}, "redirect_uri": {webCB}, "code_verifier": {testVerifier}}, pairs...)
}

// tokens are what alice's login gives client web.
func (s *site) tokens(pairs ...string) map[string]any {
	s.Helper()
	a := s.tokenAs("web", redemption(s.code(pairs...)))
	if a.StatusCode != http.StatusOK {
		s.Fatalf("redeeming: %d %s", a.StatusCode, a.body)
	}
	return a.json(s)
}

func (s *site) refreshWith(refresh any, pairs ...string) answer {
	s.Helper()
	text, _ := refresh.(string)
	return s.tokenAs("web", with(url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {text}}, pairs...))
}
