package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed templates
var files embed.FS

// views renders the pages.
type views struct {
	pages *template.Template
	// styleSource allows the one style sheet by its hash (CSP Level 3 §8.2).
	styleSource string
	style       template.CSS
}

// view is what a template shows.
type view struct {
	Title string
	Style template.CSS
	// Problem is what went wrong, in words; empty: nothing.
	Problem string
	Text    string
	FlowID  string
	CSRF    string
	Login   string
	// Account is who is logged in.
	Account string
	// Client is the application's name, Destination where it lives.
	Client      string
	Destination string
	Scopes      []scopeView
}

type scopeView struct{ Name, Meaning string }

func newViews() (*views, error) {
	style, err := files.ReadFile("templates/style.css")
	if err != nil {
		return nil, fmt.Errorf("reading the style sheet: %w", err)
	}
	pages, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the pages: %w", err)
	}
	sum := sha256.Sum256(style)
	return &views{pages: pages, style: template.CSS(style), styleSource: "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"}, nil
}

// render writes a page. target is the redirect URI that a form on it may end
// at, for browsers hold redirects after a POST against form-action; empty:
// nowhere but here.
func (v *views) render(w http.ResponseWriter, status int, name string, data view, target string) error {
	data.Style = v.style
	var page bytes.Buffer
	if err := v.pages.ExecuteTemplate(&page, name, data); err != nil {
		return fmt.Errorf("rendering page %s: %w", name, err)
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src "+v.styleSource+"; form-action 'self'"+formTarget(target)+"; base-uri 'none'; frame-ancestors 'none'")
	header.Set("X-Frame-Options", "DENY")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not no-referrer: that makes browsers send "Origin: null" with our own
	// forms (Fetch, "append a request Origin header").
	header.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(page.Bytes())
	return nil
}

// formTarget is the CSP source of a proven redirect URI.
func formTarget(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Host == "" || strings.HasPrefix(u.Host, "["):
		// A private-use scheme has no host, and a CSP source cannot name an
		// IPv6 address.
		return " " + u.Scheme + ":"
	default:
		return " " + u.Scheme + "://" + u.Host
	}
}

// destination is where a redirect URI leads, for people.
func destination(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "http":
		return "an application on this computer"
	case u.Host == "":
		return "an application on this device (" + u.Scheme + ")"
	default:
		return u.Host
	}
}

// meanings are the scopes of OpenID Connect in words.
var meanings = map[string]string{
	"openid":         "Know that it is you",
	"profile":        "See your name and login",
	"email":          "See your e-mail address",
	"offline_access": "Keep its access while you are away",
}

func scopeViews(scopes []string) []scopeView {
	shown := make([]scopeView, len(scopes))
	for i, scope := range scopes {
		shown[i] = scopeView{scope, meanings[scope]}
	}
	return shown
}
