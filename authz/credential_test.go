package authz

import (
	"errors"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

var bearerRule = &rule{fromBearer: true}

// rawRequest is a request as Envoy sends it with encode_raw_headers.
func rawRequest(path string, headers ...string) *authv3.CheckRequest {
	raw := &corev3.HeaderMap{}
	for i := 0; i+1 < len(headers); i += 2 {
		raw.Headers = append(raw.Headers, &corev3.HeaderValue{Key: headers[i], RawValue: []byte(headers[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: path, Host: "gate.example", HeaderMap: raw,
		}},
	}}
}

func TestCredential(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		token   string
		reason  Reason
	}{
		{"RFC 6750 §2.1: Bearer", []string{"authorization", "Bearer abc.def-_~+/=="}, "abc.def-_~+/==", ""},
		{"RFC 9110 §11.1: the scheme in lower case", []string{"authorization", "bearer abc"}, "abc", ""},
		{"RFC 9110 §11.1: the scheme in any case", []string{"authorization", "bEaReR abc"}, "abc", ""},
		{"RFC 9110 §5.1: the name in any case", []string{"Authorization", "Bearer abc"}, "abc", ""},
		{"RFC 6750 §3.1: no credential", nil, "", ReasonNoCredential},
		{"RFC 6750 §3.1: an empty header", []string{"authorization", ""}, "", ReasonNoCredential},
		{"RFC 6750 §3.1: another scheme", []string{"authorization", "Basic dXNlcjpwYXNz"}, "", ReasonNoCredential},
		{"a scheme that begins alike", []string{"authorization", "BearerX abc"}, "", ReasonNoCredential},
		{"RFC 6750 §3.1: more than one method: twice the same", []string{"authorization", "Bearer abc", "authorization", "Bearer abc"}, "", ReasonManyCredentials},
		{"RFC 6750 §3.1: two different", []string{"authorization", "Bearer abc", "authorization", "Bearer def"}, "", ReasonManyCredentials},
		{"two, in two spellings", []string{"authorization", "Bearer abc", "AUTHORIZATION", "Bearer def"}, "", ReasonManyCredentials},
		{"two, of two schemes", []string{"authorization", "Basic dXNlcjpwYXNz", "authorization", "Bearer abc"}, "", ReasonManyCredentials},
		{"RFC 9110 §5.3: two joined by a comma", []string{"authorization", "Bearer abc, Bearer def"}, "", ReasonManyCredentials},
		{"two joined, another scheme first", []string{"authorization", "Basic dXNlcjpwYXNz,Bearer abc"}, "", ReasonManyCredentials},
		{"RFC 6750 §2.1: no token", []string{"authorization", "Bearer"}, "", ReasonMalformedCredential},
		{"no token after the space", []string{"authorization", "Bearer "}, "", ReasonMalformedCredential},
		{"two spaces", []string{"authorization", "Bearer  abc"}, "", ReasonMalformedCredential},
		{"a tab", []string{"authorization", "Bearer\tabc"}, "", ReasonNoCredential},
		{"a space after", []string{"authorization", "Bearer abc "}, "", ReasonMalformedCredential},
		{"two tokens", []string{"authorization", "Bearer abc def"}, "", ReasonMalformedCredential},
		{"RFC 6750 §2.1: outside b64token", []string{"authorization", "Bearer a!b"}, "", ReasonMalformedCredential},
		{"= within", []string{"authorization", "Bearer a=b"}, "", ReasonMalformedCredential},
		{"only =", []string{"authorization", "Bearer =="}, "", ReasonMalformedCredential},
		{"a line break", []string{"authorization", "Bearer abc\r\n"}, "", ReasonMalformedCredential},
		{"non-ASCII", []string{"authorization", "Bearer abc\xc3\xa9"}, "", ReasonMalformedCredential},
		{"RFC 9700 §4.3.2: a form's token is none", []string{"content-type", "application/x-www-form-urlencoded"}, "", ReasonNoCredential},
		{"another header", []string{"x-authorization", "Bearer abc"}, "", ReasonNoCredential},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := credential(readRequest(rawRequest("/orders?access_token=abc", c.headers...)), bearerRule)
			if got != c.token || reasonOf(err) != c.reason {
				t.Errorf("got %q, %v, want %q, %q", got, err, c.token, c.reason)
			}
		})
	}
}

func TestCredentialFromJoinedHeaders(t *testing.T) {
	in := func(value string) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Headers: map[string]string{"authorization": value}},
		}}}
	}
	if got, err := credential(readRequest(in("Bearer abc")), bearerRule); got != "abc" || err != nil {
		t.Errorf("one header: got %q, %v", got, err)
	}
	if _, err := credential(readRequest(in("Bearer abc,Bearer abc")), bearerRule); reasonOf(err) != ReasonManyCredentials {
		t.Errorf("two joined headers: got %v", err)
	}
}

func TestCredentialNeedsASource(t *testing.T) {
	r := readRequest(rawRequest("/", "authorization", "Bearer abc"))
	if _, err := credential(r, &rule{}); reasonOf(err) != ReasonNoCredential {
		t.Errorf("a rule without sources took a credential: %v", err)
	}
}

// reasonOf is a denial's reason, empty for none.
func reasonOf(err error) Reason {
	var d *denial
	if errors.As(err, &d) {
		return d.reason
	}
	return ""
}

// FuzzCredential: what is taken is one header's, in the grammar, and nothing
// is taken from a request with two.
func FuzzCredential(f *testing.F) {
	for _, seed := range []string{"Bearer abc", "bearer  abc", "Basic abc", "Bearer a,b", "", "Bearer ===", "Bearer\x00a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, err := credential(&request{authorization: []string{value}}, bearerRule)
		if (err == nil) != (token != "") {
			t.Fatalf("%q gave %q, %v", value, token, err)
		}
		if err == nil && (strings.ContainsAny(token, " ,\"\\\r\n\t;") || !strings.EqualFold(value, "bearer "+token)) {
			t.Fatalf("%q gave the token %q", value, token)
		}
		if _, err := credential(&request{authorization: []string{value, value}}, bearerRule); err == nil {
			t.Fatalf("%q was taken twice", value)
		}
	})
}
