package issuer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func TestParseScope(t *testing.T) {
	for _, row := range []struct {
		in   string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"a", []string{"a"}, true},
		{"b a b", []string{"b", "a"}, true},
		{"a  b", nil, false},
		{" a", nil, false},
		{"a\tb", nil, false},
		{`a"b`, nil, false},
		{`a\b`, nil, false},
		{"ä", nil, false},
		{strings.Repeat("x", 129), nil, false},
	} {
		got, ok := parseScope(row.in)
		if ok != row.ok || !cmp.Equal(row.want, got) {
			t.Errorf("parseScope(%q) = %q, %t", row.in, got, ok)
		}
	}
}

func TestCatalog(t *testing.T) {
	c := newCatalog(soundConfig())
	everything := []string{"openid", "profile", "offline_access", "read:orders", "write:orders", "read:profile"}
	same := func(what string, got []string, want ...string) {
		t.Helper()
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	same("a customer", c.ofPerson(everything, []string{"customer"}), "openid", "profile", "offline_access", "read:orders", "read:profile")
	same("an unknown role", c.ofPerson(everything, []string{"king"}), "openid", "profile", "offline_access")
	same("within orders", c.within(everything, []string{"https://orders.example"}), "openid", "profile", "offline_access", "read:orders", "write:orders")
	same("within nothing named", c.within(everything, nil), everything...)
	same("audiences of all", c.audiences(everything), "https://localhost:8443", "https://orders.example", "https://profile.example")
	same("audiences of one", c.audiences([]string{"read:orders"}), "https://orders.example")
	same("audiences of profile alone", c.audiences([]string{"profile", "offline_access"}))
	may := func(client store.Client) []string {
		return keep(everything, func(scope string) bool { return c.mayAsk(client, scope) })
	}
	same("a machine", may(store.Client{GrantTypes: []string{grantClientCredentials}, Scopes: everything}), "read:orders", "write:orders", "read:profile")
	same("an app", may(store.Client{GrantTypes: []string{grantAuthorizationCode}, Scopes: []string{"read:orders", "gone"}}), "openid", "profile", "read:orders")
	same("an app that refreshes", may(store.Client{GrantTypes: []string{grantAuthorizationCode, grantRefreshToken}}), "openid", "profile", "offline_access")
}
