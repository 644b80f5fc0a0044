// Package docs has no code: its test holds what the pages say against the tree.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	link      = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)
	departure = regexp.MustCompile(`departs: \[([^\]]*)\]\(divergences\.md\)`)
	row       = regexp.MustCompile(`(?m)^\| (.*) \|$`)
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every test that standards.md names is where it says, with the row that it
// says, every file is there, and every clause has a proof.
func TestStandardsNameWhatThereIs(t *testing.T) {
	page := read(t, "standards.md")
	tests := map[string]map[string]*ast.FuncDecl{}
	named := 0
	for _, found := range link.FindAllStringSubmatch(page, -1) {
		text, path := found[1], found[2]
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		name, is := strings.CutPrefix(text, "`Test")
		if !is {
			continue
		}
		named++
		if tests[path] == nil {
			tests[path] = functions(t, path)
		}
		name, part, divided := strings.Cut(strings.TrimSuffix("Test"+name, "`"), "/")
		if function := tests[path][name]; function == nil {
			t.Errorf("%s has no %s", path, name)
		} else if divided && !says(function, part) {
			t.Errorf("%s: %s has no row %q", path, name, part)
		}
	}
	if named < 300 {
		t.Errorf("only %d tests were found: are they named as ever?", named)
	}
	_, clauses, _ := strings.Cut(page, "\n## Pitfalls\n")
	for _, found := range row.FindAllStringSubmatch(clauses, -1) {
		cells := strings.Split(found[1], " | ")
		if len(cells) != 3 || !strings.Contains(cells[2], "[`Test") && cells[2] != "proof" && cells[2] != "---" && !strings.HasPrefix(found[1], "---") {
			t.Errorf("a clause without proof: %s", found[1])
		}
	}
}

// functions are the top-level functions of a Go file.
func functions(t *testing.T, path string) map[string]*ast.FuncDecl {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*ast.FuncDecl{}
	for _, declaration := range file.Decls {
		if function, is := declaration.(*ast.FuncDecl); is && function.Recv == nil {
			all[function.Name.Name] = function
		}
	}
	return all
}

// says tells whether a string stands in a function, as the rows of its table do.
func says(function *ast.FuncDecl, text string) (found bool) {
	ast.Inspect(function.Body, func(n ast.Node) bool {
		if literal, is := n.(*ast.BasicLit); is && literal.Kind == token.STRING {
			value, err := strconv.Unquote(literal.Value)
			found = found || err == nil && value == text
		}
		return !found
	})
	return found
}

// Every departure that standards.md names is explained in divergences.md.
func TestDeparturesAreExplained(t *testing.T) {
	explained := map[string]bool{}
	for _, found := range row.FindAllStringSubmatch(read(t, "divergences.md"), -1) {
		explained[strings.Split(found[1], " | ")[0]] = true
	}
	departures := departure.FindAllStringSubmatch(read(t, "standards.md"), -1)
	if len(departures) == 0 {
		t.Error("no departure is named: are they written as ever?")
	}
	for _, found := range departures {
		if !explained[found[1]] {
			t.Errorf("%s is not explained", found[1])
		}
	}
}
