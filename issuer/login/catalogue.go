package login

import (
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"golang.org/x/text/language"
)

// english is what every other language is measured by and falls back to.
const english = "en"

// maxAccept bounds what is read of a browser's wishes, in bytes.
const maxAccept = 512

// catalogue holds what the pages say, by language.
type catalogue struct {
	matcher language.Matcher
	tags    []string
	texts   map[string]map[string]string // by language and key
	ours    map[string]string            // the built-in English, which says what there is to say
}

// newCatalogue reads messages/LANGUAGE.yaml of the folders, ours first; what a
// later one says replaces what an earlier one said.
func newCatalogue(folders ...fs.FS) (*catalogue, error) {
	c := &catalogue{texts: map[string]map[string]string{}}
	for _, folder := range folders {
		files, err := fs.Glob(folder, "messages/*.yaml")
		if err != nil {
			return nil, fmt.Errorf("listing messages: %w", err)
		}
		for _, file := range files {
			if err := c.read(folder, file); err != nil {
				return nil, fmt.Errorf("reading %s: %w", file, err)
			}
		}
		if c.ours == nil {
			c.ours = maps.Clone(c.texts[english])
		}
	}
	// The first is what is taken where nothing fits.
	c.tags = slices.Sorted(maps.Keys(c.texts))
	c.tags = append([]string{english}, slices.DeleteFunc(c.tags, func(t string) bool { return t == english })...)
	tags := make([]language.Tag, len(c.tags))
	for i, tag := range c.tags {
		tags[i] = language.Make(tag)
	}
	c.matcher = language.NewMatcher(tags)
	return c, c.check()
}

func (c *catalogue) read(folder fs.FS, file string) error {
	data, err := fs.ReadFile(folder, file)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(path.Base(file), ".yaml")
	tag, err := language.Parse(name)
	if err != nil || tag.String() != name {
		return fmt.Errorf("%q is no language tag in its canonical form: name the file en.yaml, de.yaml, pt-BR.yaml (RFC 5646)", name)
	}
	texts := map[string]string{}
	if err := yaml.Unmarshal(data, &texts); err != nil {
		return err
	}
	if c.texts[name] == nil {
		c.texts[name] = texts
		return nil
	}
	maps.Copy(c.texts[name], texts)
	return nil
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// check reports texts that no page shows, and values that a text leaves out or
// invents; what a language does not say is said in English.
func (c *catalogue) check() (err error) {
	for _, lang := range c.tags {
		for _, key := range slices.Sorted(maps.Keys(c.texts[lang])) {
			said, known := c.ours[key]
			switch {
			case !known && strings.HasPrefix(key, "scope."):
				// A site's own scopes may be explained in any language.
			case !known:
				err = errors.Join(err, fmt.Errorf("messages/%s.yaml: no page shows %q: take it out, or correct its name", lang, key))
			case !slices.Equal(placeholders(said), placeholders(c.texts[lang][key])):
				err = errors.Join(err, fmt.Errorf("messages/%s.yaml: %q must have exactly the values %v", lang, key, placeholders(said)))
			}
		}
	}
	return err
}

func placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// words are what the pages say in one language.
type words struct {
	// Lang is the language's tag (RFC 5646).
	Lang            string
	texts, fallback map[string]string
}

// words picks the language: what the request names (ui_locales, OpenID Connect
// Core §3.1.2.1), else what the browser prefers (RFC 9110 §12.5.4).
func (c *catalogue) words(uiLocales, accept string) words {
	if len(accept) > maxAccept || len(uiLocales) > maxAccept {
		accept, uiLocales = "", ""
	}
	_, at := language.MatchStrings(c.matcher, strings.Join(strings.Fields(uiLocales), ","), accept)
	return words{Lang: c.tags[at], texts: c.texts[c.tags[at]], fallback: c.texts[english]}
}

// Say is a text without values.
func (w words) Say(key string) string {
	if text, ok := w.texts[key]; ok {
		return text
	}
	return w.fallback[key]
}

// With is a text with values, which come in pairs of name and value. They are
// escaped and in bold.
func (w words) With(key string, pairs ...string) template.HTML {
	text := template.HTMLEscapeString(w.Say(key))
	replace := make([]string, 0, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		replace = append(replace, "{"+pairs[i]+"}", "<strong>"+template.HTMLEscapeString(pairs[i+1])+"</strong>")
	}
	return template.HTML(strings.NewReplacer(replace...).Replace(text))
}
