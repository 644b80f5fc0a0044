package policies

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

type example struct{ language, name, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+) ?([^\n]*)\n(.*?)^```$")

// examples are the code blocks of docs/policies.md.
func examples(t *testing.T) (text string, blocks []example) {
	t.Helper()
	page, err := os.ReadFile("../docs/policies.md")
	must(t, err)
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, example{m[1], m[2], m[3]})
	}
	if got, want := len(blocks)*2, strings.Count("\n"+string(page), "\n```"); got != want {
		t.Fatalf("%d fences of %d were understood", got, want)
	}
	return string(page), blocks
}

// Every example is what it says: the policies load, their tests pass, the
// route names one of them, and the document is what a policy is given.
func TestDocumentedExamples(t *testing.T) {
	_, blocks := examples(t)
	dir := t.TempDir()
	kinds := map[string]int{}
	for _, e := range blocks {
		kinds[e.language]++
		if e.language == "rego" {
			write(t, filepath.Join(dir, e.name), e.text)
		}
	}
	if kinds["rego"] < 3 || kinds["json"] != 1 || kinds["yaml"] != 1 {
		t.Fatalf("examples: %v", kinds)
	}
	set, err := Load(filepath.Join(dir, "policies"))
	if err != nil {
		t.Fatal(err)
	}
	checkTests(t, filepath.Join(dir, "policies"))
	for _, e := range blocks {
		switch e.language {
		case "json":
			checkDocument(t, e.text)
		case "yaml":
			checkRoute(t, set, e.text)
		case "rego":
		default:
			t.Errorf("nothing checks the examples in %q", e.language)
		}
	}
}

func checkTests(t *testing.T, dir string) {
	t.Helper()
	results, err := RunTests(t.Context(), dir)
	must(t, err)
	ran := 0
	for _, r := range results {
		if !strings.HasPrefix(r.Package, reserved) {
			ran++
		}
		if r.Outcome != TestPassed {
			t.Errorf("%s: %s: %s", r.Name, r.Outcome, r.Detail)
		}
	}
	if ran < 4 {
		t.Errorf("%d tests ran", ran)
	}
}

func checkDocument(t *testing.T, text string) {
	t.Helper()
	var documented map[string]any
	must(t, json.Unmarshal([]byte(text), &documented))
	if diff := cmp.Diff(asJSON(t, request()), documented); diff != "" {
		t.Errorf("the documented input is not what a policy is given: %s", diff)
	}
}

func checkRoute(t *testing.T, set *Set, text string) {
	t.Helper()
	var config struct {
		Gateway struct {
			Routes []struct {
				Policy string   `yaml:"policy"`
				Scopes []string `yaml:"scopes"`
			} `yaml:"routes"`
		} `yaml:"gateway"`
	}
	must(t, yaml.Unmarshal([]byte(text), &config))
	route := config.Gateway.Routes[0]
	if !set.Has(route.Policy) {
		t.Errorf("the route names %q, the examples define %v", route.Policy, set.Names())
	}
	in := request()
	in.Required.Scopes = route.Scopes
	if !decide(t, set, route.Policy, in).Allow {
		t.Error("the documented policy denies the documented input")
	}
	in.Token.Roles = nil
	if decide(t, set, route.Policy, in).Allow {
		t.Error("the documented policy allows everyone")
	}
}

// Each member of the document has its row in the table, and each row a member.
func TestDocumentedMembers(t *testing.T) {
	page, _ := examples(t)
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (?:text|number|object|list)").FindAllStringSubmatch(page, -1) {
		rows[m[1]] = true
	}
	for section, value := range asJSON(t, request()) {
		members, nested := value.(map[string]any)
		if !nested {
			members = map[string]any{"": nil}
		}
		for name := range members {
			path := strings.TrimSuffix(section+"."+name, ".")
			if !rows[path] {
				t.Errorf("%s has no row", path)
			}
			delete(rows, path)
		}
	}
	for path := range rows {
		t.Errorf("%s has a row, but is no member", path)
	}
}

// The functions that the page names are callable or refused as it says.
func TestDocumentedFunctions(t *testing.T) {
	page, _ := examples(t)
	_, section, _ := strings.Cut(page, "## What may not be called")
	table, rest, _ := strings.Cut(section, "What may be called:")
	name := regexp.MustCompile("`([a-z]+(?:[._][a-z0-9_]+)*)`")
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(table, -1) {
		refused, _, _ := strings.Cut(row[1], " but ")
		for _, m := range name.FindAllStringSubmatch(refused, -1) {
			if _, ok := withheld(m[1]); !ok {
				t.Errorf("%s is said to be refused", m[1])
			}
		}
	}
	for _, m := range name.FindAllStringSubmatch(rest, -1) {
		if why, ok := withheld(m[1]); ok {
			t.Errorf("%s is said to be callable: %s", m[1], why)
		}
	}
}
