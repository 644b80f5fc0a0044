package admin

import (
	"net/url"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// maxRedirectURI bounds a redirect URI in bytes.
const maxRedirectURI = 2048

// fault is what is wrong with a value, and what to do.
type fault struct{ problem, remedy string }

// checkRedirect says what is wrong with a redirect URI; nil: nothing. Redirect
// URIs are compared as they are registered (RFC 9700 §2.1), so only those are
// taken that every parser reads alike.
func checkRedirect(uri string, kind store.ClientType) *fault {
	if uri == "" || len(uri) > maxRedirectURI {
		return &fault{"is empty or too long", "write at most 2048 characters"}
	}
	if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\\\"<>`{}|^", r) }) {
		return &fault{"has a character that URIs cannot have", "percent-encode it"}
	}
	if strings.Contains(uri, "#") { // RFC 6749 §3.1.2
		return &fault{"has a fragment", "leave out everything from #"}
	}
	if strings.Contains(uri, "*") { // RFC 9700 §4.1
		return &fault{"has a wildcard", "register each redirect URI in full"}
	}
	u, err := url.Parse(uri)
	if err != nil || !u.IsAbs() {
		return &fault{"is no absolute URI", "write https://HOST/PATH"}
	}
	return checkTarget(u, kind)
}

// checkTarget judges where a redirect URI leads.
func checkTarget(u *url.URL, kind store.ClientType) *fault {
	if u.Scheme != "https" && u.Scheme != "http" {
		return checkPrivateScheme(u, kind)
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return &fault{"names no host", "write https://HOST/PATH"}
	case u.User != nil:
		return &fault{"has a user name in it", "leave out everything before @"}
	case strings.Trim(u.Host, hostAlphabet) != "":
		return &fault{"has a host that is no plain name or address", "write the host in letters, digits, dots and dashes (xn-- for others)"}
	case u.Scheme == "https":
		return nil
	}
	switch host := u.Hostname(); {
	case host == "127.0.0.1" || host == "::1":
		return nil
	case host == "localhost" && kind == store.Native: // RFC 8252 §8.3
		return &fault{"names localhost, which may be another machine", "write http://127.0.0.1/PATH: its port may vary"}
	case host == "localhost":
		return nil
	}
	return &fault{"sends codes in clear over the network", "write https; http is for 127.0.0.1 and [::1]"}
}

// hostAlphabet is what a host is written in, port included.
const hostAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789.-:[]"

// checkPrivateScheme allows an installed application a scheme of its own, a
// domain name read backwards (RFC 8252 §7.1).
func checkPrivateScheme(u *url.URL, kind store.ClientType) *fault {
	if kind != store.Native || !strings.Contains(u.Scheme, ".") {
		return &fault{"is not https", "write https://HOST/PATH"}
	}
	if u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") {
		return &fault{"has an authority", "write SCHEME:/PATH"}
	}
	return nil
}
