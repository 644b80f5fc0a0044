package admin

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
)

func TestCheckRedirect(t *testing.T) {
	all := []store.ClientType{store.Confidential, store.Public, store.Native}
	web, native, none := all[:2], all[2:], all[:0]
	for uri, good := range map[string][]store.ClientType{
		"https://app.example/cb":                         all,
		"https://app.example":                            all,
		"https://app.example:8443/cb?tenant=a":           all,
		"https://app.example/a%20b":                      all,
		"http://127.0.0.1/cb":                            all,
		"http://127.0.0.1:3000/cb":                       all,
		"http://[::1]:3000/cb":                           all,
		"http://localhost:3000/cb":                       web,    // RFC 8252 §8.3
		"com.example.app:/cb":                            native, // RFC 8252 §7.1
		"com.example.app://host/cb":                      none,
		"com.example.app:cb":                             none,
		"myapp:/cb":                                      none, // RFC 8252 §7.1: a reversed domain name
		"http://app.example/cb":                          none,
		"http://127.0.0.2/cb":                            none,
		"http://localhost.evil.example/cb":               none,
		"http://127.0.0.1.evil.example/cb":               none,
		"http://127.1/cb":                                none,
		"http://0.0.0.0/cb":                              none,
		"https://app.example/cb#":                        none, // RFC 6749 §3.1.2
		"https://app.example/cb#x":                       none,
		"https://*.example/cb":                           none, // RFC 9700 §4.1
		"https://app.example/*":                          none,
		"https://user@app.example/cb":                    none,
		"https://app.example@evil.example/":              none,
		"https://app.example\\@evil.example/":            none,
		"https:///cb":                                    none,
		"https:app.example":                              none,
		"https://:443/cb":                                none,
		"//app.example/cb":                               none,
		"/cb":                                            none,
		"":                                               none,
		"javascript:alert(1)":                            none,
		"data:text/html,x":                               none,
		"file:///etc/passwd":                             none,
		"https://app.example/a b":                        none,
		"https://app.example/\n":                         none,
		"https://äpp.example/":                           none,
		"https://app.example/%zz":                        none,
		"https://app.example;frame-src/":                 none,
		"https://APP.example/":                           none,
		"https://a.example/" + strings.Repeat("x", 2048): none,
	} {
		for _, kind := range all {
			want := false
			for _, k := range good {
				want = want || k == kind
			}
			f := checkRedirect(uri, kind)
			if (f == nil) != want {
				t.Errorf("%.60q for client type %d: %v, want good %v", uri, kind, f, want)
			}
			if f != nil && (f.problem == "" || f.remedy == "") {
				t.Errorf("%.60q: %+v says not what to do", uri, f)
			}
		}
	}
}

// Whatever is registered leads nowhere but where it seems to.
func FuzzCheckRedirect(f *testing.F) {
	for _, seed := range []string{"https://app.example/cb", "http://[::1]:1/x?y=z", "com.example.app:/cb", "http://localhost/", "https://a@b/"} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, uri string, kind uint8) {
		if checkRedirect(uri, store.ClientType(kind)) != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.User != nil || strings.ContainsAny(uri, "#*\\ \t\r\n") || u.Opaque != "" {
			t.Errorf("%q was accepted", uri)
		}
		switch u.Scheme {
		case "https":
		case "http":
			ip, err := netip.ParseAddr(u.Hostname())
			if u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
				t.Errorf("%q was accepted", uri)
			}
		default:
			if store.ClientType(kind) != store.Native || !strings.Contains(u.Scheme, ".") || u.Host != "" {
				t.Errorf("%q was accepted", uri)
			}
		}
	})
}
