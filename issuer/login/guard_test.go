package login

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
)

func TestFromOurPage(t *testing.T) {
	for _, row := range []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"a client that says nothing", http.Header{}, true},
		{"our page", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://issuer.example"}}, true},
		{"our page, an old browser", http.Header{"Origin": {"https://issuer.example"}}, true},
		{"another site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{"a sibling host", http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://evil.issuer.example"}}, false},
		{"no page", http.Header{"Sec-Fetch-Site": {"none"}}, false},
		{"an opaque origin", http.Header{"Origin": {"null"}}, false},
		{"our host over http", http.Header{"Origin": {"http://issuer.example"}}, false},
		{"another port", http.Header{"Origin": {"https://issuer.example:8443"}}, false},
		{"ours as a prefix", http.Header{"Origin": {"https://issuer.example.evil.example"}}, false},
		{"right site, wrong origin", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://evil.example"}}, false},
		{"two origins", http.Header{"Origin": {"https://issuer.example", "https://evil.example"}}, false},
		{"an empty origin", http.Header{"Origin": {""}}, false},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header = row.header
		if got := fromOurPage(r, "https://issuer.example"); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// The token of the consent form holds for what the person saw and nothing else.
func TestConsentToken(t *testing.T) {
	f, s := &Flow{CSRF: "k"}, &store.Session{ID: "ses_1"}
	token := consentToken(f, s, []string{"openid"})
	for name, other := range map[string]string{
		"another flow":    consentToken(&Flow{CSRF: "l"}, s, []string{"openid"}),
		"another session": consentToken(f, &store.Session{ID: "ses_2"}, []string{"openid"}),
		"more scopes":     consentToken(f, s, []string{"openid", "email"}),
		"another device":  consentToken(&Flow{CSRF: "k", UserCode: "BBBB-BBBB"}, s, []string{"openid"}),
		"another client":  consentToken(&Flow{CSRF: "k", ClientID: "c"}, s, []string{"openid"}),
		"a logout":        endToken("k"),
	} {
		if matches(token, other) {
			t.Errorf("the token of a consent holds for %s", name)
		}
	}
	if !matches(token, consentToken(f, s, []string{"openid"})) || matches("", "") {
		t.Error("a token does not match itself, or nothing matches nothing")
	}
}

func TestClientAddress(t *testing.T) {
	for _, row := range []struct{ forwarded, remote, want string }{
		{"", "127.0.0.1:5000", "127.0.0.1"},
		{"203.0.113.9", "127.0.0.1:5000", "203.0.113.9"},
		{"6.6.6.6, 203.0.113.9", "127.0.0.1:5000", "203.0.113.9"},
		{"2001:db8:1:2:3:4:5:6", "127.0.0.1:5000", "2001:db8:1:2::/64"},
		{"::ffff:203.0.113.9", "127.0.0.1:5000", "203.0.113.9"},
		{"fe80::1%eth0", "127.0.0.1:5000", "fe80::/64"},
		{"nonsense", "127.0.0.1:5000", "127.0.0.1"},
		{"", "@", "unknown"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = row.remote
		if row.forwarded != "" {
			r.Header.Set("X-Forwarded-For", row.forwarded)
		}
		if got := ClientAddress(r); got != row.want {
			t.Errorf("%q from %q: %q, want %q", row.forwarded, row.remote, got, row.want)
		}
	}
}

func TestFormTarget(t *testing.T) {
	for uri, want := range map[string]string{
		"https://app.example/a;b,c?d": " https:",
		"http://127.0.0.1:4711/cb":    " http://127.0.0.1:* http://localhost:* https:",
		"http://127.0.0.1;x:4711/cb":  " http://127.0.0.1:* http://localhost:* https:",
		"http://[::1]:4711/cb":        " http: https:",
		"com.example.app:/cb":         " com.example.app: https:",
		"":                            "",
	} {
		if got := formTarget(uri); got != want {
			t.Errorf("formTarget(%q) = %q, want %q", uri, got, want)
		}
	}
}
