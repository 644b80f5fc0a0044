package login

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func builtIn(t *testing.T) *views {
	t.Helper()
	v, err := newViews("")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Each language of ours says everything, and nothing is there that no page or
// code asks for.
func TestCatalogueIsComplete(t *testing.T) {
	c := builtIn(t).catalogue
	for _, lang := range c.tags {
		for key := range c.texts[english] {
			if c.texts[lang][key] == "" {
				t.Errorf("%s does not say %q", lang, key)
			}
		}
	}
	asked := map[string]bool{}
	for _, pattern := range []string{"templates/*.html", "*.go", "../*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, quoted := range regexp.MustCompile(`"([a-z_]+(?:\.[a-z_]+)*)"`).FindAllStringSubmatch(string(source), -1) {
				asked[quoted[1]] = true
				asked[quoted[1]+".title"] = true
			}
		}
	}
	for key := range c.texts[english] {
		if !asked[key] && !strings.HasPrefix(key, "scope.") {
			t.Errorf("nobody asks for %q", key)
		}
	}
}

// The language is the client's wish, else the browser's, else English.
func TestCatalogueChoosesTheLanguage(t *testing.T) {
	c := builtIn(t).catalogue
	for _, row := range []struct{ uiLocales, accept, want string }{
		{"", "", "en"},
		{"", "de", "de"},
		{"", "de-AT,de;q=0.9,en;q=0.8", "de"},
		{"", "en-GB,de;q=0.5", "en"},
		{"", "tlh", "en"},
		{"", "de;q=0", "en"},
		{"de-CH fr", "en", "de"},
		{"xx-not-a-language!", "de", "de"},
		{"", strings.Repeat("de,", 1000), "en"},
		{"", "\x00;;,=", "en"},
	} {
		if got := c.words(row.uiLocales, row.accept).Lang; got != row.want {
			t.Errorf("ui_locales %q, Accept-Language %.20q: %s, not %s", row.uiLocales, row.accept, got, row.want)
		}
	}
}

// Values are text, never markup, and never read as placeholders themselves.
func TestCatalogueEscapesValues(t *testing.T) {
	w := words{texts: map[string]string{"k": "<{client}> & {account}"}}
	got := string(w.With("k", "client", "<b>{account}", "account", `"x"`))
	if want := "&lt;<strong>&lt;b&gt;{account}</strong>&gt; &amp; <strong>&#34;x&#34;</strong>"; got != want {
		t.Errorf("%s\nnot %s", got, want)
	}
}

// What a theme cannot mean is found when it is read.
func TestCatalogueRefuses(t *testing.T) {
	own := fstest.MapFS{"messages/en.yaml": {Data: []byte("a: \"{client} asks\"\nb: B\n")}}
	for name, file := range map[string]struct{ path, text, says string }{
		"an unknown text":       {"messages/de.yaml", "c: C", `no page shows "c"`},
		"a value left out":      {"messages/de.yaml", "a: fragt", `exactly the values [{client}]`},
		"a value invented":      {"messages/de.yaml", `b: "{user}"`, "exactly the values []"},
		"a language that isn't": {"messages/german_x.yaml", "b: B", "no language tag"},
		"another spelling":      {"messages/DE.yaml", "b: B", "canonical"},
		"what is no text":       {"messages/de.yaml", "a: [1]", "messages/de.yaml"},
		"a text twice":          {"messages/de.yaml", "b: B\nb: C", "messages/de.yaml"},
	} {
		_, err := newCatalogue(own, fstest.MapFS{file.path: {Data: []byte(file.text)}})
		if err == nil || !strings.Contains(err.Error(), file.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A theme replaces what it has and leaves the rest; a site's scopes get words.
func TestTheme(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "style.css", "body{color:red}")
	write(t, folder, "message.html", `{{define "message"}}{{template "head" .}}<p id="ours">{{.Text}}</p>{{template "foot" .}}{{end}}`)
	write(t, folder, "messages/en.yaml", "login.title: Welcome to Example\nscope.read:orders: See your orders\n")
	write(t, folder, "messages/fr.yaml", "login.title: Bienvenue\n")
	v, err := newViews(folder)
	if err != nil {
		t.Fatal(err)
	}
	french := v.catalogue.words("fr", "")
	if french.Say("login.title") != "Bienvenue" || french.Say("login.submit") != "Log in" || v.catalogue.words("", "").Say("login.title") != "Welcome to Example" {
		t.Error("the theme's texts are not said, or the others are lost")
	}
	if got := french.scopeViews([]string{"read:orders", "other"}); got[0].Meaning != "See your orders" || got[1].Meaning != "" {
		t.Errorf("scopes mean %v", got)
	}
	if string(v.style) != "body{color:red}" || v.sources == builtIn(t).sources {
		t.Error("the theme's style sheet is not taken, or not allowed")
	}
	var page strings.Builder
	if err := v.pages.ExecuteTemplate(&page, "message", view{words: french, Text: "T"}); err != nil || !strings.Contains(page.String(), `id="ours"`) {
		t.Errorf("the theme's page is not taken: %v", err)
	}
	if tags := slices.Sorted(maps.Keys(v.catalogue.texts)); !slices.Equal(tags, []string{"de", "en", "fr"}) {
		t.Errorf("languages %v", tags)
	}
}

func TestThemeThatDoesNotDo(t *testing.T) {
	for name, row := range map[string]struct{ file, text string }{
		"a page that does not parse": {"login.html", `{{define "login"}}{{`},
		"a page that does not run":   {"login.html", `{{define "login"}}{{.NoSuchThing}}{{end}}`},
		"a device page that fails":   {"device.html", `{{define "device"}}{{.NoSuchThing}}{{end}}`},
		"a page of another name":     {"logon.html", `{{define "login"}}{{end}}`},
		"a page that defines none":   {"login.html", `<h1>Log in</h1>`},
		"texts that nobody shows":    {"messages/en.yaml", "login.titel: x"},
	} {
		folder := t.TempDir()
		write(t, folder, row.file, row.text)
		if CheckTheme(folder) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if CheckTheme(filepath.Join(t.TempDir(), "missing")) == nil {
		t.Error("a folder that is not there is taken")
	}
}

func write(t *testing.T, folder, name, text string) {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
