package token

import (
	"net/netip"
	"strings"
)

// maxURL bounds htu, in bytes.
const maxURL = 4 << 10

// sameURL compares two http or https URLs without query and fragment, after the
// syntax-based and scheme-based normalisation that RFC 9449 §4.3 asks for (RFC
// 3986 §6.2.2 and §6.2.3). What is no such URL is the same as nothing.
func sameURL(a, b string) bool {
	x, ok := normaliseURL(a)
	if !ok {
		return false
	}
	y, ok := normaliseURL(b)
	return ok && x == y
}

func normaliseURL(text string) (string, bool) {
	if len(text) > maxURL || strings.ContainsFunc(text, notInURL) {
		return "", false
	}
	if end := strings.IndexAny(text, "?#"); end >= 0 {
		text = text[:end]
	}
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	port := map[string]string{"https": "443", "http": "80"}[scheme]
	if !found || port == "" {
		return "", false
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		slash = len(rest)
	}
	host, ok := normaliseAuthority(rest[:slash], port)
	if !ok {
		return "", false
	}
	path, ok := normaliseEscapes(rest[slash:])
	return scheme + "://" + host + removeDots(path), ok
}

// notInURL are the characters that RFC 3986 §2 has no place for.
func notInURL(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r)
}

// normaliseAuthority lowers the host and drops the scheme's own port (RFC 3986
// §6.2.2.1, §6.2.3). User names, which no request carries, are refused.
func normaliseAuthority(authority, port string) (string, bool) {
	authority = strings.ToLower(authority)
	host, given := authority, ""
	if at := strings.LastIndexByte(authority, ':'); at > strings.LastIndexByte(authority, ']') {
		host, given = authority[:at], authority[at+1:]
	}
	if strings.Trim(given, "0123456789") != "" || !isHost(host) {
		return "", false
	}
	if given == "" || given == port {
		return host, true
	}
	return host + ":" + given, true
}

// isHost takes a name, an IPv4 address or an IPv6 address in brackets, without
// escapes: no request is sent to any other.
func isHost(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._~") == ""
}

// normaliseEscapes decodes what needs no escape and writes the rest in capitals
// (RFC 3986 §6.2.2.1, §6.2.2.2).
func normaliseEscapes(path string) (string, bool) {
	if !strings.Contains(path, "%") {
		return path, true
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return "", false
		}
		if c := unhex(path[i+1])<<4 | unhex(path[i+2]); isUnreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String(), true
}

// removeDots resolves . and .. (RFC 3986 §5.2.4); an empty path is / (§6.2.3).
func removeDots(path string) string {
	segments := strings.Split(path, "/")
	kept := make([]string, 0, len(segments))
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			if len(kept) > 1 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	if joined := strings.Join(kept, "/"); joined != "" {
		return joined
	}
	return "/"
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func isUnreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("-._~", c) >= 0
}
