package harness

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// Browser is what a person has: cookies, a page, and forms to fill in. It goes
// one redirect at a time, so that a test can look at each.
type Browser struct {
	t      testing.TB
	client *http.Client
	// URL, Status, Header and Page are those of the answer that is shown.
	URL    *url.URL
	Status int
	Header http.Header
	Page   string
}

// NewBrowser is a browser that has never been here.
func (s *System) NewBrowser(t testing.TB) *Browser {
	t.Helper()
	return OpenBrowser(t, s.HTTP())
}

// OpenBrowser is a browser over a client that follows no redirects.
func OpenBrowser(t testing.TB, client *http.Client) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client.Jar = jar
	return &Browser{t: t, client: client}
}

// Open goes to an address.
func (b *Browser) Open(address string) {
	b.t.Helper()
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.show(request)
}

func (b *Browser) show(request *http.Request) {
	b.t.Helper()
	request.Header.Set("Accept", "text/html")
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.URL, b.Status, b.Header, b.Page = request.URL, response.StatusCode, response.Header, string(page)
}

// Location is where the answer redirects to, nil where it does not.
func (b *Browser) Location() *url.URL {
	b.t.Helper()
	location := b.Header.Get("Location")
	if b.Status < 300 || b.Status > 399 || location == "" {
		return nil
	}
	target, err := b.URL.Parse(location)
	if err != nil {
		b.t.Fatal(err)
	}
	return target
}

// Follow follows redirects for as long as they stay at this host, and returns
// the address that leads away, nil where a page is shown.
func (b *Browser) Follow() *url.URL {
	b.t.Helper()
	for range 10 {
		target := b.Location()
		if target == nil {
			return nil
		}
		if target.Host != b.URL.Host {
			return target
		}
		b.Open(target.String())
	}
	b.t.Fatalf("redirected without an end, at last to %s", b.URL)
	return nil
}

var (
	forms      = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	controls   = regexp.MustCompile(`<(?:input|button)\b([^>]*)>`)
	attributes = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

// Form is the one form of a page.
type Form struct {
	Action string
	Method string
	// Fields are the inputs with their values; Buttons the named buttons'.
	Fields  url.Values
	Buttons url.Values
}

// Form reads the page's form.
func (b *Browser) Form() Form {
	b.t.Helper()
	found := forms.FindAllStringSubmatch(b.Page, -1)
	if len(found) != 1 {
		b.t.Fatalf("%s (%d) has %d forms, not one:\n%s", b.URL, b.Status, len(found), b.Page)
	}
	open := attributesOf(found[0][1])
	form := Form{Action: open["action"], Method: strings.ToUpper(open["method"]), Fields: url.Values{}, Buttons: url.Values{}}
	for _, control := range controls.FindAllStringSubmatch(found[0][2], -1) {
		a := attributesOf(control[1])
		switch {
		case a["name"] == "":
		case strings.HasPrefix(control[0], "<button"):
			form.Buttons.Add(a["name"], a["value"])
		default:
			form.Fields.Add(a["name"], a["value"])
		}
	}
	return form
}

func attributesOf(tag string) map[string]string {
	found := map[string]string{}
	for _, a := range attributes.FindAllStringSubmatch(tag, -1) {
		found[a[1]] = html.UnescapeString(a[2])
	}
	return found
}

// Submit fills the page's form in and sends it: pairs are names and values.
func (b *Browser) Submit(pairs ...string) {
	b.t.Helper()
	b.SubmitForm(b.Form(), pairs...)
}

// SubmitForm sends a form that was read before.
func (b *Browser) SubmitForm(form Form, pairs ...string) {
	b.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !form.Fields.Has(pairs[i]) && !form.Buttons.Has(pairs[i]) {
			b.t.Fatalf("the form of %s has no %s", b.URL, pairs[i])
		}
		form.Fields.Set(pairs[i], pairs[i+1])
	}
	target, err := b.URL.Parse(form.Action)
	if err != nil || form.Method != http.MethodPost {
		b.t.Fatalf("the form of %s goes by %s to %q: %v", b.URL, form.Method, form.Action, err)
	}
	request, err := http.NewRequest(http.MethodPost, target.String(), strings.NewReader(form.Fields.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", b.URL.Scheme+"://"+b.URL.Host)
	b.show(request)
}

// Authorization is a request for a code, with PKCE.
type Authorization struct {
	Client   Client
	Redirect string
	Scopes   []string
	State    string
	Nonce    string
	Verifier string
}

// Query are the parameters of the authorization request.
func (a Authorization) Query() url.Values {
	challenge := sha256.Sum256([]byte(a.Verifier))
	return url.Values{
		"response_type": {"code"}, "client_id": {a.Client.ID}, "redirect_uri": {a.Redirect},
		"scope": {strings.Join(a.Scopes, " ")}, "state": {a.State}, "nonce": {a.Nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
}

// Redemption is the token request for a code.
func (a Authorization) Redemption(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.Redirect}, "code_verifier": {a.Verifier}}
}

// LogIn goes through login and consent, where they are asked for, and returns
// the address with the code that the browser is sent to.
func (b *Browser) LogIn(address, login, password string) *url.URL {
	b.t.Helper()
	b.Open(address)
	away := b.Follow()
	if away == nil && b.Form().Fields.Has("password") {
		b.Submit("login", login, "password", password)
		away = b.Follow()
	}
	if away == nil {
		b.Submit("decision", "allow")
		away = b.Follow()
	}
	if away == nil {
		b.t.Fatalf("the login ends at %s (%d):\n%s", b.URL, b.Status, b.Page)
	}
	return away
}
