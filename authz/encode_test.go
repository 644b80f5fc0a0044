package authz

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestEncodeValue(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "usr_ada", "usr_ada"},
		{"URL", "https://issuer.example", "https://issuer.example"},
		{"space within", "Ada Lovelace", "Ada Lovelace"},
		{"spaces at the ends, which HTTP trims", " a ", "%20a%20"},
		{"comma of a single value", "a,b", "a,b"},
		{"header injection (RFC 9110 §5.5)", "a\r\nx-gatehouse-roles: admin", "a%0D%0Ax-gatehouse-roles: admin"},
		{"NUL", "a\x00b", "a%00b"},
		{"tab", "a\tb", "a%09b"},
		{"DEL", "a\x7fb", "a%7Fb"},
		{"non-ASCII", "jürgen", "j%C3%BCrgen"},
		{"not UTF-8", "a\xffb", "a%FFb"},
		{"what looks encoded", "a%0Ab", "a%250Ab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encodeValue(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestEncodeList(t *testing.T) {
	for _, c := range []struct {
		name, separator, want string
		items                 []string
	}{
		{"none", ",", "", nil},
		{"several", ",", "customer,approver", []string{"customer", "approver"}},
		{"an item that would be two", ",", "customer%2Cadmin", []string{"customer,admin"}},
		{"a scope that would be two", " ", "read%20write", []string{"read write"}},
		{"a second header line", ",", "a%0D%0Aadmin", []string{"a\r\nadmin"}},
		{"empty items", ",", "a,b", []string{"", "a", "", "b", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encodeList(c.items, c.separator); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzEncode: whatever a claim holds, its header is visible ASCII that decodes
// to just that claim, and a list keeps its number of items.
func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"", "a", "a,b", " a", "a\r\nb", "%", "%2C", "é", "\xff"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		value := encodeValue(a)
		if i := strings.IndexFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }); i >= 0 || strings.Trim(value, " ") != value {
			t.Fatalf("%q became %q", a, value)
		}
		if back, err := url.PathUnescape(value); err != nil || back != a {
			t.Fatalf("%q became %q, which decodes to %q, %v", a, value, back, err)
		}
		want := slices.DeleteFunc([]string{a, b}, func(s string) bool { return s == "" })
		items := strings.FieldsFunc(encodeList([]string{a, b}, ","), func(r rune) bool { return r == ',' })
		for i, item := range items {
			items[i], _ = url.PathUnescape(item)
		}
		if !slices.Equal(items, want) {
			t.Fatalf("%q became %q", want, items)
		}
	})
}
