package issuer

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const formType = "application/x-www-form-urlencoded"

func TestBodyForm(t *testing.T) {
	for _, row := range []struct {
		name, target, contentType, body string
		want                            form
		status                          int
	}{
		{"plain", "/", formType, "a=1&b=x+y%20z", form{"a": {"1"}, "b": {"x y z"}}, 0},
		{"a charset", "/", formType + "; charset=utf-8", "a=1", form{"a": {"1"}}, 0},
		{"a charset in capitals", "/", formType + "; charset=UTF-8", "a=1", form{"a": {"1"}}, 0},
		{"RFC 6749 appendix B another charset", "/", formType + "; charset=utf-16", "a=1", nil, 400},
		{"RFC 6749 appendix B a charset that hides characters", "/", formType + "; charset=utf-7", "a=1", nil, 400},
		{"nothing", "/", formType, "", form{}, 0},
		{"RFC 6749 §3.2 without a value is omitted", "/", formType, "a=&b", form{}, 0},
		{"RFC 8707 §2 several resources", "/", formType, "resource=a&resource=b", form{"resource": {"a", "b"}}, 0},
		{"RFC 6749 §3.2 repeated", "/", formType, "a=1&a=1", nil, 400},
		{"repeated, once empty", "/", formType, "a=1&a=", nil, 400},
		{"repeated under another spelling", "/", formType, "a=1&%61=2", nil, 400},
		{"RFC 6749 §2.3.1 in the query", "/?client_secret=x", formType, "a=1", nil, 400},
		{"a bare question mark", "/?", formType, "a=1", nil, 400},
		{"malformed percent", "/", formType, "a=%zz", nil, 400},
		{"cut percent", "/", formType, "a=%4", nil, 400},
		{"a semicolon", "/", formType, "a=1;b=2", nil, 400},
		{"JSON", "/", "application/json", `{"a":1}`, nil, 400},
		{"multipart", "/", "multipart/form-data; boundary=x", "--x--", nil, 400},
		{"no type", "/", "", "a=1", nil, 400},
		{"a NUL", "/", formType, "a=%00", nil, 400},
		{"a line break", "/", formType, "a=x%0d%0ay", nil, 400},
		{"not UTF-8", "/", formType, "a=%ff", nil, 400},
		{"too large", "/", formType, "a=" + strings.Repeat("x", maxForm), nil, 413},
		{"too many", "/", formType, strings.Repeat("&", maxParameters), nil, 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, row.target, strings.NewReader(row.body))
			if row.contentType != "" {
				r.Header.Set("Content-Type", row.contentType)
			}
			got, err := bodyForm(r)
			if row.status == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Error(diff)
				}
				return
			}
			var f *failure
			if !errors.As(err, &f) || f.code != codeInvalidRequest || max(f.status, 400) != row.status {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A form that parses means what every other parser takes it for, once each.
func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{"a=1&b=2", "a=%20", "resource=a&resource=b", "a;b", "%", "&&&", "a=1&a=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		parsed, err := parseForm(encoded)
		if err != nil {
			return
		}
		values, err := url.ParseQuery(encoded)
		if err != nil {
			t.Fatalf("%q parses here and nowhere else", encoded)
		}
		for name, all := range parsed {
			if len(all) > 1 && name != "resource" {
				t.Errorf("%q has %q more than once", encoded, name)
			}
			if all[0] == "" || !strings.Contains(strings.Join(values[name], "\x00"), all[0]) {
				t.Errorf("%q: %q = %q", encoded, name, all)
			}
		}
	})
}
