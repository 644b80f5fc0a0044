package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
)

//go:embed templates
var embedded embed.FS

// views renders the pages.
type views struct {
	pages     *template.Template
	catalogue *catalogue
	style     template.CSS
	// sources are what the pages may load (CSP Level 3): the one style sheet,
	// allowed by its hash (§8.2), and the pictures inside a theme's pages.
	sources string
}

// view is what a template shows.
type view struct {
	words
	Title string
	Style template.CSS
	// Problem is what went wrong, in words; empty: nothing.
	Problem string
	Text    template.HTML
	FlowID  string
	CSRF    string
	Login   string
	// Account is who is logged in.
	Account string
	// Client is the application's name, Destination where it lives.
	Client      string
	Destination string
	Scopes      []scopeView
	// UserCode is what a device shows.
	UserCode string
	// Hidden are parameters that go through a form.
	Hidden []hidden
	// Action and Script are the form that a client is answered with.
	Action template.URL
	Script template.JS
}

type hidden struct{ Name, Value string }

type scopeView struct{ Name, Meaning string }

// newViews reads the pages. theme is a folder whose files stand in for those of
// templates/ by their names; empty: none.
func newViews(theme string) (*views, error) {
	own, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, fmt.Errorf("reading the pages: %w", err)
	}
	folders := []fs.FS{own}
	sources := ""
	if theme != "" {
		if err := checkFiles(os.DirFS(theme), own); err != nil {
			return nil, err
		}
		folders = append(folders, os.DirFS(theme))
		sources = "; img-src data:"
	}
	v := &views{pages: template.New("pages")}
	if v.catalogue, err = newCatalogue(folders...); err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if err := v.read(folder); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256([]byte(v.style))
	v.sources = "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'" + sources
	return v, v.check()
}

func (v *views) read(folder fs.FS) error {
	style, err := fs.ReadFile(folder, "style.css")
	switch {
	case err == nil:
		v.style = template.CSS(style)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the style sheet: %w", err)
	}
	files, err := fs.Glob(folder, "*.html")
	if err != nil || len(files) == 0 {
		return err
	}
	if _, err := v.pages.ParseFS(folder, files...); err != nil {
		return fmt.Errorf("parsing the pages: %w", err)
	}
	return nil
}

// checkFiles reports a theme's file that would not stand in for anything: one of
// another name than ours, or without what ours of that name defines.
func checkFiles(theme, own fs.FS) error {
	files, err := fs.Glob(theme, "*.html")
	if err != nil {
		return err
	}
	ours, err := fs.Glob(own, "*.html")
	if err != nil {
		return err
	}
	for _, file := range files {
		if !slices.Contains(ours, file) {
			return fmt.Errorf("%s is no page: the pages are %s", file, strings.Join(ours, ", "))
		}
		has, err := template.ParseFS(theme, file)
		if err != nil {
			return fmt.Errorf("parsing the pages: %w", err)
		}
		for _, wanted := range template.Must(template.ParseFS(own, file)).Templates() {
			if name := wanted.Name(); name != file && has.Lookup(name) == nil {
				return fmt.Errorf("%s does not define the template %q: put its text between {{define %q}} and {{end}}", file, name, name)
			}
		}
	}
	return nil
}

// pageNames are the templates that requests are answered with.
var pageNames = []string{"login", "consent", "device", "end", "message", "return"}

// check renders every page once: one that fails does so before a person needs
// it.
func (v *views) check() error {
	for _, name := range pageNames {
		sample := view{words: v.catalogue.words("", ""), Title: "t", Problem: "p", Text: "t", Scopes: []scopeView{{"s", "m"}}}
		if err := v.pages.ExecuteTemplate(io.Discard, name, sample); err != nil {
			return fmt.Errorf("trying the page %s: %w", name, err)
		}
	}
	return nil
}

// CheckTheme reports why a folder of templates does not do.
func CheckTheme(folder string) error {
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no folder")
	}
	if err != nil {
		return err
	}
	_, err = newViews(folder)
	return err
}

// Locales are the languages of the built-in pages (OpenID Connect Discovery §3,
// ui_locales_supported) and of the theme's.
func (p *Pages) Locales() []string { return p.views.catalogue.tags }

// words are those of a request; uiLocales is what its client asked for.
func (v *views) words(r *http.Request, uiLocales string) words {
	return v.catalogue.words(uiLocales, r.Header.Get("Accept-Language"))
}

// render writes a page. target is the redirect URI that a form on it may end
// at; empty: nowhere but here.
func (v *views) render(w http.ResponseWriter, status int, name string, data view, target string) error {
	return v.write(w, status, name, data, v.sources+"; form-action 'self'"+formTarget(target))
}

// write writes a page with what its Content-Security-Policy allows it.
func (v *views) write(w http.ResponseWriter, status int, name string, data view, policy string) error {
	data.Style = v.style
	var page bytes.Buffer
	if err := v.pages.ExecuteTemplate(&page, name, data); err != nil {
		return fmt.Errorf("rendering page %s: %w", name, err)
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", data.Lang)
	header.Set("Vary", "Accept-Language")
	header.Set("Content-Security-Policy", "default-src 'none'; "+policy+"; base-uri 'none'; frame-ancestors 'none'")
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

// formTarget are the CSP sources for a form that ends at a proven redirect URI.
// Chromium holds every redirect after a form to form-action, also those that the
// application makes once the browser is back: with its origin alone, a login
// would hang where the callback leads on to another host.
func formTarget(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Scheme == "https":
		return " https:"
	case u.Scheme == "http" && strings.Contains(u.Hostname(), ":"):
		return " http: https:" // CSP cannot name an IPv6 literal (CSP Level 3 §2.3.1, host-part)
	case u.Scheme == "http":
		return " http://127.0.0.1:* http://localhost:* https:" // the person's own device
	default: // a private-use scheme
		return " " + u.Scheme + ": https:"
	}
}

// destination is where a redirect URI leads, for people.
func (w words) destination(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "http":
		return w.Say("destination.computer")
	case u.Host == "":
		return strings.ReplaceAll(w.Say("destination.device"), "{scheme}", u.Scheme)
	default:
		return u.Host
	}
}

// scopeViews are scopes with their meaning, where the catalogue has one.
func (w words) scopeViews(scopes []string) []scopeView {
	shown := make([]scopeView, len(scopes))
	for i, scope := range scopes {
		shown[i] = scopeView{scope, w.Say("scope." + scope)}
	}
	return shown
}
