package issuer

import (
	"net/url"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// maxRedirectURI bounds a redirect URI in bytes.
const maxRedirectURI = 2048

// provenRedirect tells whether a client registered the redirect URI that a
// request presents. Comparison is by bytes (RFC 9700 §2.1, RFC 3986 §6.2.1);
// only the port of a native client's loopback redirect may vary
// (RFC 8252 §7.3). What is not proven is never redirected to.
func provenRedirect(client store.Client, presented string) bool {
	if !redirectable(presented) {
		return false
	}
	if slices.Contains(client.RedirectURIs, presented) {
		return true
	}
	if client.Type != store.Native {
		return false
	}
	asked, ok := splitLoopback(presented)
	return ok && slices.ContainsFunc(client.RedirectURIs, func(registered string) bool {
		known, ok := splitLoopback(registered)
		return ok && known == asked
	})
}

// redirectable refuses what no registration can make a sound target: fragments
// (RFC 6749 §3.1.2), bytes that parsers disagree about, http beyond this
// machine (RFC 9700 §2.6), and schemes that run or read something in a browser.
func redirectable(uri string) bool {
	if uri == "" || len(uri) > maxRedirectURI {
		return false
	}
	for _, c := range []byte(uri) {
		if c <= ' ' || c > '~' || strings.IndexByte("#\\\"<>`{}|^", c) >= 0 {
			return false
		}
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || strings.Trim(u.Host, hostAlphabet) != "" {
		return false
	}
	switch u.Scheme {
	case "https":
		return u.Hostname() != ""
	case "http":
		return isLoopbackHost(u.Hostname())
	default:
		// A private-use scheme is a reversed domain name (RFC 8252 §7.1).
		return strings.Contains(u.Scheme, ".")
	}
}

// hostAlphabet has no sub-delims: a host also goes into a page's
// Content-Security-Policy.
const hostAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]"

// loopback is a loopback redirect without its port.
type loopback struct {
	host string
	// rest is the path and query, byte for byte.
	rest string
}

// splitLoopback takes http://127.0.0.1[:PORT]REST or http://[::1][:PORT]REST
// apart. It reads bytes instead of parsing a URL: nothing but digits can hide
// in the port. localhost is neither (RFC 8252 §8.3).
func splitLoopback(uri string) (l loopback, ok bool) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		rest, found := strings.CutPrefix(uri, "http://"+host)
		if !found {
			continue
		}
		if port, has := strings.CutPrefix(rest, ":"); has {
			digits := len(port) - len(strings.TrimLeft(port, "0123456789"))
			if !isPort(port[:digits]) {
				return l, false
			}
			rest = port[digits:]
		}
		return loopback{host, rest}, rest == "" || rest[0] == '/' || rest[0] == '?'
	}
	return l, false
}

// isPort tells whether digits are a port from 1 to 65535, in its one spelling.
func isPort(digits string) bool {
	if len(digits) == 0 || len(digits) > 5 || digits[0] == '0' {
		return false
	}
	return len(digits) < 5 || digits <= "65535"
}
