package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/app"
)

var (
	typed  = regexp.MustCompile("(?m)(?:^|[ (])(?:bin/)?gatehouse ([a-z][a-z-]*(?: [^`|\n]*)?)")
	flag   = regexp.MustCompile(`^--?([a-z][a-z-]*)`)
	yamlOf = regexp.MustCompile("(?s)```yaml\n(  apis:.*?)```")
)

// Every command that the pages show is there, with its flags.
func TestDocsNameCommandsThatAreThere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range typed.FindAllStringSubmatch(shown(string(text)), -1) {
			words := strings.Fields(found[1])
			command, rest, err := newRoot().Find(words)
			misses := len(rest) > 0 && command.HasSubCommands() && !strings.HasPrefix(rest[0], "-")
			if err != nil || misses {
				t.Errorf("%s: `gatehouse %s`: there is no such command", page, found[1])
				continue
			}
			seen++
			for _, word := range words {
				name := flag.FindStringSubmatch(word)
				if name == nil {
					continue
				}
				if f := command.Flag(name[1]); f == nil && (len(name[1]) > 1 || command.Flags().ShorthandLookup(name[1]) == nil) {
					t.Errorf("%s: `gatehouse %s`: %s has no flag %s", page, found[1], command.CommandPath(), word)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d commands were found", seen)
	}
}

// shown is what a page shows as code, one piece a line: a command within a
// sentence is wrapped where the sentence is.
func shown(page string) string {
	var code []string
	for i, part := range strings.Split(page, "```") {
		if i%2 == 1 {
			code = append(code, part)
			continue
		}
		for j, inline := range strings.Split(part, "`") {
			if j%2 == 1 {
				code = append(code, strings.Join(strings.Fields(inline), " "))
			}
		}
	}
	return strings.Join(code, "\n")
}

// What docs/applications.md writes under `issuer:` is a configuration.
func TestDocsConfigurationOfApplications(t *testing.T) {
	text, err := os.ReadFile("../../docs/applications.md")
	if err != nil {
		t.Fatal(err)
	}
	part := yamlOf.FindSubmatch(text)
	if part == nil {
		t.Fatal("it has no configuration")
	}
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(file, append([]byte("issuer:\n"), part[1]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Load(file); err != nil {
		t.Error(err)
	}
}
