package issuer

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxForm bounds a request's parameters, in bytes.
	maxForm = 64 << 10
	// maxParameters bounds their number.
	maxParameters = 64
)

// form is a request's parameters: each present once and not empty, `resource`
// (RFC 8707 §2) alone repeatable.
type form map[string][]string

func (f form) get(name string) string {
	if len(f[name]) == 0 {
		return ""
	}
	return f[name][0]
}

func (f form) has(name string) bool { return len(f[name]) > 0 }

// without is a form less some parameters.
func (f form) without(names ...string) form {
	rest := maps.Clone(f)
	maps.DeleteFunc(rest, func(name string, _ []string) bool { return slices.Contains(names, name) })
	return rest
}

// bodyForm reads the parameters of a POST. Nothing may stand in the query:
// there, secrets and codes end up in logs (RFC 6749 §2.3.1, RFC 9700 §4.3).
func bodyForm(r *http.Request) (form, error) {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, fail(codeInvalidRequest, "parameters belong into the body, not into the URL")
	}
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || len(r.Header["Content-Type"]) != 1 {
		return nil, fail(codeInvalidRequest, "the body must be application/x-www-form-urlencoded")
	}
	// In another charset the bytes would mean something else to others.
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") { // RFC 6749 appendix B
		return nil, fail(codeInvalidRequest, "the body must be in UTF-8")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, tooLarge()
	case err != nil:
		return nil, fail(codeInvalidRequest, "the body could not be read").because(err)
	}
	return parseForm(string(body))
}

// queryForm reads the parameters of a GET.
func queryForm(r *http.Request) (form, error) {
	if len(r.URL.RawQuery) > maxForm {
		return nil, tooLarge()
	}
	return parseForm(r.URL.RawQuery)
}

func tooLarge() *failure {
	return &failure{code: codeInvalidRequest, description: "the request is too large", status: http.StatusRequestEntityTooLarge}
}

// parseForm decodes application/x-www-form-urlencoded strictly. A parameter
// without a value counts as omitted; one that comes twice is refused (RFC 6749
// §3.1 and §3.2).
func parseForm(encoded string) (form, error) {
	if strings.Count(encoded, "&") >= maxParameters {
		return nil, fail(codeInvalidRequest, "there are too many parameters")
	}
	values, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, fail(codeInvalidRequest, "the parameters are not properly encoded").because(err)
	}
	parsed := form{}
	for name, all := range values {
		if len(all) > 1 && name != "resource" {
			return nil, fail(codeInvalidRequest, "a parameter is repeated").because(fmt.Errorf("parameter %.64q", name))
		}
		for _, value := range all {
			if !isText(name) || !isText(value) {
				return nil, fail(codeInvalidRequest, "a parameter has a control character or is not UTF-8")
			}
			if value != "" {
				parsed[name] = append(parsed[name], value)
			}
		}
	}
	return parsed, nil
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
