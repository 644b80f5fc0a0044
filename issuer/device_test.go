package issuer

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

// deviceSite has a television, which is a public client, and another.
func deviceSite(t *testing.T, options ...func(*Config)) *site {
	t.Helper()
	s := newSite(t, options...)
	for _, id := range []string{"tv", "tv2"} {
		if err := s.server.store.CreateClient(t.Context(), store.Client{
			ID: id, Name: "The Television", Type: store.Native, GrantTypes: []string{grantDeviceCode, grantRefreshToken},
			Scopes: []string{"read:orders", "write:orders"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) authorizeDevice(pairs ...string) answer {
	s.Helper()
	return s.request("POST", pathDevice, with(url.Values{"client_id": {"tv"}, "scope": {"openid offline_access read:orders write:orders"}}, pairs...).Encode())
}

// device is a device authorization that was begun.
func (s *site) device(pairs ...string) map[string]any {
	s.Helper()
	a := s.authorizeDevice(pairs...)
	if a.StatusCode != http.StatusOK {
		s.Fatalf("beginning a device authorization: %d %s", a.StatusCode, a.body)
	}
	return a.json(s)
}

// poll asks for the device's tokens.
func (s *site) poll(device map[string]any, pairs ...string) answer {
	s.Helper()
	return s.request("POST", pathToken, with(url.Values{"grant_type": {grantDeviceCode}, "client_id": {"tv"}, "device_code": {device["device_code"].(string)}}, pairs...).Encode())
}

// connect brings a browser to the consent page of a device.
func (b *browser) connect(login string, device map[string]any) answer {
	b.s.Helper()
	page := b.get(device["verification_uri_complete"].(string))
	if strings.Contains(page.body, `name="password"`) {
		page = b.submit(page, "login", login, "password", rightWords)
	}
	return b.submit(page, "user_code", device["user_code"].(string))
}

// The whole way: the device asks, the person logs in, sees the code, sends it,
// sees who asks for what, allows it; the device gets its tokens, once.
func TestDeviceFlow(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	if !regexp.MustCompile(`^[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}$`).MatchString(d["user_code"].(string)) {
		t.Errorf("the user code is %v", d["user_code"])
	}
	if d["verification_uri"] != s.url+"/oauth/device" || d["verification_uri_complete"] != s.url+"/oauth/device?user_code="+d["user_code"].(string) || d["expires_in"] != 600.0 || d["interval"] != 5.0 {
		t.Errorf("answered %v", d)
	}
	s.oauthError(s.poll(d), 400, codeAuthorizationPending)

	b := s.browser()
	page := b.get(d["verification_uri_complete"].(string))
	if !strings.Contains(page.body, "Log in to connect a device.") {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	page = b.submit(page, "login", "alice", "password", rightWords)
	if !strings.Contains(page.body, `value="`+d["user_code"].(string)+`"`) || !strings.Contains(page.body, "Never enter a code that somebody sent you.") {
		t.Fatalf("the page of the code: %d %s", page.StatusCode, page.body)
	}
	s.clock.advance(5 * time.Second)
	s.oauthError(s.poll(d), 400, codeAuthorizationPending) // to look at it allows nothing
	page = b.submit(page, "user_code", " "+strings.ToLower(strings.ReplaceAll(d["user_code"].(string), "-", " "))+" ")
	for _, shown := range []string{"The Television", "alice", "read:orders", "write:orders", d["user_code"].(string)} {
		if !strings.Contains(page.body, shown) {
			t.Errorf("the consent page does not show %q: %s", shown, page.body)
		}
	}
	s.clock.advance(5 * time.Second)
	s.oauthError(s.poll(d), 400, codeAuthorizationPending)
	page = b.submit(page, "decision", "allow")
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "The device is connected") {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	if kept, err := s.server.store.Consent(t.Context(), "usr_alice", "tv"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the consent is remembered: %+v %v", kept, err)
	}
	a := s.poll(d)
	if a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	got := a.json(t)
	claims := s.claims(got["access_token"])
	if claims.Subject() != "usr_alice" || claims.ClientID() != "tv" || claims.SessionID() == "" || got["refresh_token"] == nil || got["id_token"] == nil || got["scope"] != "openid offline_access read:orders write:orders" {
		t.Errorf("answered %v", got)
	}
	if a := s.request("POST", pathToken, url.Values{"grant_type": {grantRefreshToken}, "client_id": {"tv"}, "refresh_token": {got["refresh_token"].(string)}}.Encode()); a.StatusCode != http.StatusOK {
		t.Errorf("refreshing: %s", a.body)
	}
	s.oauthError(s.poll(d), 400, codeInvalidGrant)
	if alive, err := s.server.store.Alive(t.Context(), refsOf(claims)); err != nil || alive {
		t.Errorf("after a second fetch the first one's token is alive: %v", err)
	}
	if metadata := s.request("GET", pathDiscovery, "").json(t); metadata["device_authorization_endpoint"] != s.url+pathDevice || !slices.Contains(metadata["grant_types_supported"].([]any), any(grantDeviceCode)) {
		t.Error("the device flow is not advertised")
	}
}

func TestDeviceDenied(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	b := s.browser()
	if page := b.submit(b.connect("alice", d), "decision", "deny"); !strings.Contains(page.body, "The device was not connected") {
		t.Errorf("%d %s", page.StatusCode, page.body)
	}
	s.oauthError(s.poll(d), 400, codeAccessDenied)
	if page := b.connect("alice", d); page.StatusCode != http.StatusBadRequest || !strings.Contains(page.body, "No device shows this code") {
		t.Errorf("the code again: %d %s", page.StatusCode, page.body)
	}
}

// A device's consent is never remembered: who follows a link must see what it
// leads to, each time (RFC 8628 §5.4).
func TestDeviceIsAlwaysAskedFor(t *testing.T) {
	s := deviceSite(t)
	b := s.browser()
	for range 2 {
		d := s.device()
		page := b.connect("alice", d)
		if !strings.Contains(page.body, `value="allow"`) {
			t.Fatalf("no consent is asked for: %d %s", page.StatusCode, page.body)
		}
		b.submit(page, "decision", "allow")
		if a := s.poll(d); a.StatusCode != http.StatusOK {
			t.Error(a.body)
		}
	}
}

// slow_down is really sent, and the pace is remembered.
func TestDevicePace(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	s.oauthError(s.poll(d), 400, codeAuthorizationPending)
	s.clock.advance(5*time.Second - time.Millisecond)
	s.oauthError(s.poll(d), 400, codeSlowDown)
	s.clock.advance(9 * time.Second)
	s.oauthError(s.poll(d), 400, codeSlowDown) // it must wait 10 seconds now
	s.clock.advance(15 * time.Second)
	s.oauthError(s.poll(d), 400, codeAuthorizationPending)
	s.clock.advance(10 * time.Minute)
	s.oauthError(s.poll(d), 400, codeExpiredToken)
}

// One row, one clause, at the device authorization endpoint.
func TestDeviceAuthorizationAttacks(t *testing.T) {
	s := deviceSite(t)
	for _, row := range []struct {
		clause string
		method string
		body   url.Values
		change func(*http.Request)
		status int
		code   string
	}{
		{"RFC 8628 §3.1 GET", "GET", nil, nil, 405, codeInvalidRequest},
		{"RFC 8628 §3.1 no client", "POST", url.Values{"scope": {"openid"}}, nil, 401, codeInvalidClient},
		{"RFC 8628 §3.1 unknown client", "POST", url.Values{"client_id": {"x"}, "scope": {"openid"}}, nil, 401, codeInvalidClient},
		{"RFC 8628 §3.1 a confidential client without its secret", "POST", url.Values{"client_id": {"web"}, "scope": {"openid"}}, nil, 401, codeInvalidClient},
		{"RFC 8628 §3.1 a client without the grant", "POST", url.Values{"scope": {"openid"}}, basic("web", webSecret), 400, codeUnauthorizedClient},
		{"RFC 6749 §3.3 unknown scope", "POST", url.Values{"client_id": {"tv"}, "scope": {"admin"}}, nil, 400, codeInvalidScope},
		{"RFC 6749 §3.3 scope of another client", "POST", url.Values{"client_id": {"tv"}, "scope": {"read:profile"}}, nil, 400, codeInvalidScope},
		{"RFC 6749 §3.3 no scope", "POST", url.Values{"client_id": {"tv"}}, nil, 400, codeInvalidScope},
		{"RFC 8707 §2 unknown resource", "POST", url.Values{"client_id": {"tv"}, "scope": {"read:orders"}, "resource": {"https://other.example"}}, nil, 400, codeInvalidTarget},
		{"RFC 6749 §3.1 a parameter twice", "POST", url.Values{"client_id": {"tv", "tv"}, "scope": {"openid"}}, nil, 400, codeInvalidRequest},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			change := row.change
			if change == nil {
				change = func(*http.Request) {}
			}
			a := s.request(row.method, pathDevice, row.body.Encode(), change)
			s.oauthError(a, row.status, row.code)
			if row.status == 405 && a.Header.Get("Allow") != "POST" {
				t.Errorf("Allow %q", a.Header.Get("Allow"))
			}
		})
	}
}

// One row, one way to fetch what is not one's own.
func TestDevicePollAttacks(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	b := s.browser()
	b.submit(b.connect("alice", d), "decision", "allow")
	for clause, a := range map[string]answer{
		"RFC 8628 §3.4 another client":      s.poll(d, "client_id", "tv2"),
		"RFC 8628 §3.4 unknown code":        s.poll(d, "device_code", "ghd_unknown"),
		"RFC 8628 §3.4 the user code":       s.poll(d, "device_code", d["user_code"].(string)),
		"RFC 8628 §3.4 as an authorization": s.request("POST", pathToken, url.Values{"grant_type": {grantAuthorizationCode}, "client_id": {"spa"}, "code": {d["device_code"].(string)}, "redirect_uri": {"https://spa.example/"}, "code_verifier": {testVerifier}}.Encode()),
		"RFC 8628 §3.4 as a refresh token":  s.request("POST", pathToken, url.Values{"grant_type": {grantRefreshToken}, "client_id": {"tv"}, "refresh_token": {d["device_code"].(string)}}.Encode()),
	} {
		if a.StatusCode != 400 || a.json(t)["error"] != codeInvalidGrant {
			t.Errorf("%s: %d %s", clause, a.StatusCode, a.body)
		}
	}
	s.oauthError(s.poll(d, "device_code", ""), 400, codeInvalidRequest)
	s.oauthError(s.poll(d, "resource", profileAPI), 400, codeInvalidTarget)
	if a := s.poll(d); a.StatusCode != http.StatusOK {
		t.Errorf("then the device itself: %s", a.body)
	}
}

// Of many polls at once, one gets the tokens.
func TestParallelDeviceFetch(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	b := s.browser()
	b.submit(b.connect("alice", d), "decision", "allow")
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if a := s.poll(d); a.StatusCode == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 32 fetched with one code", won)
	}
}

// Nobody can be made to connect a device without seeing it.
func TestDevicePageAttacks(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	b := s.browser()
	page := b.submit(b.get(login.PathDevice), "login", "alice", "password", rightWords)
	fields := page.fields("user_code", d["user_code"].(string))
	for name, a := range map[string]answer{
		"a form of another site":     b.post(login.PathDevice, fields, header("Origin", "https://evil.example")),
		"a form of another page":     b.post(login.PathDevice, fields, header("Sec-Fetch-Site", "cross-site")),
		"without the form's token":   b.post(login.PathDevice, with(page.fields("user_code", d["user_code"].(string)), "csrf", "")),
		"with a wrong token":         b.post(login.PathDevice, with(page.fields("user_code", d["user_code"].(string)), "csrf", "x")),
		"without a flow":             b.post(login.PathDevice, url.Values{"user_code": {d["user_code"].(string)}}),
		"another browser's flow":     s.browser().post(login.PathDevice, fields),
		"the consent without a code": b.post(login.PathConsent, with(page.fields(), "decision", "allow")),
	} {
		if strings.Contains(a.body, `value="allow"`) || a.StatusCode == http.StatusSeeOther && strings.Contains(a.Header.Get("Location"), login.PathConsent) {
			t.Errorf("%s goes on: %d %s", name, a.StatusCode, a.Header.Get("Location"))
		}
	}
	s.oauthError(s.poll(d), 400, codeAuthorizationPending)
	for _, wrong := range []string{"BBBB-BBBB", "x", "", strings.Repeat("B", 100), "AAAA-AAAA", d["device_code"].(string)} {
		if a := b.post(login.PathDevice, with(page.fields(), "user_code", wrong)); a.StatusCode != http.StatusBadRequest || len(wrong) > 32 && strings.Contains(a.body, wrong) {
			t.Errorf("the code %q: %d", wrong, a.StatusCode)
		}
	}
	if a := b.get(login.PathDevice + "?user_code=" + url.QueryEscape(`"><script>alert(1)</script>`)); strings.Contains(a.body, "<script") {
		t.Error("the prefilled code is not escaped")
	}
}

// Whoever guesses user codes is stopped, though the right one comes at last.
func TestUserCodesCannotBeGuessed(t *testing.T) {
	s := deviceSite(t)
	d := s.device()
	b := s.browser()
	page := b.submit(b.get(login.PathDevice), "login", "alice", "password", rightWords)
	for range 10 {
		page = b.post(login.PathDevice, page.fields("user_code", "BBBB-BBBB"))
	}
	page = b.post(login.PathDevice, page.fields("user_code", d["user_code"].(string)))
	if page.StatusCode != http.StatusTooManyRequests || page.Header.Get("Retry-After") == "" {
		t.Fatalf("the eleventh guess: %d", page.StatusCode)
	}
	s.clock.advance(30 * time.Second)
	page = b.follow(b.post(login.PathDevice, page.fields("user_code", d["user_code"].(string))))
	if !strings.Contains(page.body, `value="allow"`) {
		t.Errorf("after a while: %d %s", page.StatusCode, page.body)
	}
}

// Strangers cannot fill the store.
func TestDeviceAuthorizationsAreBounded(t *testing.T) {
	s := deviceSite(t)
	refused := 0
	for range 40 {
		if a := s.authorizeDevice(); a.StatusCode == http.StatusTooManyRequests && a.Header.Get("Retry-After") != "" {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d of 40 were refused", refused)
	}
	if a := s.request("POST", pathDevice, url.Values{"client_id": {"tv"}, "scope": {"openid"}}.Encode(), header("X-Forwarded-For", "198.51.100.7")); a.StatusCode != http.StatusOK {
		t.Errorf("from another address: %d %s", a.StatusCode, a.body)
	}
	s.clock.advance(11 * time.Minute)
	if removed, _, err := s.server.store.Sweep(t.Context(), 100); removed < 21 || err != nil {
		t.Errorf("%d were swept, %v", removed, err)
	}
}

// FuzzParseUserCode: what is taken for a code is one, in one spelling.
func FuzzParseUserCode(f *testing.F) {
	for _, seed := range []string{"WDJB-MJHT", "wdjb mjht", "", "-", "AEIO-UAEI", "WDJBMJHTX", "ＷDJBMJHT", "wdjb\x00mjht"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := parseUserCode(typed)
		if !ok {
			return
		}
		if len(code) != userCodeLength || strings.Trim(code, userCodeAlphabet) != "" {
			t.Fatalf("%q is taken for %q", typed, code)
		}
		if again, ok := parseUserCode(showUserCode(code)); !ok || again != code {
			t.Fatalf("%q is shown as what is read as %q", code, again)
		}
	})
}

func TestUserCodesAreEven(t *testing.T) {
	counts := map[rune]int{}
	for range 2000 {
		for _, letter := range newUserCode() {
			counts[letter]++
		}
	}
	for _, letter := range userCodeAlphabet {
		if n := counts[letter]; n < 600 || n > 1000 { // 800 ± 7 standard deviations
			t.Errorf("%c comes %d times", letter, n)
		}
	}
	if len(counts) != len(userCodeAlphabet) {
		t.Errorf("%d letters come", len(counts))
	}
}
