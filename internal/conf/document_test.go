package conf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type route struct {
	ID      string        `yaml:"id"`
	Timeout time.Duration `yaml:"timeout"`
	Scopes  []string      `yaml:"scopes"`
}

type sample struct {
	Dir     Path             `yaml:"dir"`
	Count   int              `yaml:"count"`
	Public  bool             `yaml:"public"`
	Routes  []route          `yaml:"routes"`
	Named   map[string]route `yaml:"named"`
	Pointer *route           `yaml:"pointer"`
}

func TestDecode(t *testing.T) {
	var got sample
	_, faults := Decode([]byte(`
dir: data
count: 3
public: true
routes: [{id: on, timeout: 90s, scopes: [a, b]}]
named: {x: {id: 1}}
pointer: {id: p}
`), "/base", &got)
	if faults != nil {
		t.Fatal(faults)
	}
	want := sample{
		Dir: "/base/data", Count: 3, Public: true,
		Routes:  []route{{ID: "on", Timeout: 90 * time.Second, Scopes: []string{"a", "b"}}},
		Named:   map[string]route{"x": {ID: "1"}},
		Pointer: &route{ID: "p"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Everything wrong is reported at once, each with its line and key.
func TestDecodeReportsAll(t *testing.T) {
	var into sample
	_, faults := Decode([]byte(`dir: data
count: many
publik: true
routes:
  - id: a
    timeout: 30
    scopes: read
  - id: b
    id: c
named: [1]
pointer: &x {id: p}
`), "/", &into)
	want := []string{
		`line 2: count: "many" is not a whole number: write digits alone, within 64 bits`,
		`line 3: publik: is not a known key: use one of count, dir, named, pointer, public, routes`,
		`line 6: routes[0].timeout: "30" is not a duration: write one such as 30s, 10m or 24h`,
		`line 7: routes[0].scopes: "read" is not a list: write it as [a, b] or as ` + "`- a` lines",
		`line 9: routes[1].id: stands a second time (first on line 8): keep one of the two`,
		`line 10: named: is not a mapping: write ` + "`key: value` lines below it",
		`line 11: pointer: is a YAML anchor or alias: write the value out`,
	}
	if diff := cmp.Diff(want, strings.Split(faults.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefusesWhatIsNotOneDocument(t *testing.T) {
	for name, row := range map[string]struct{ text, says string }{
		"syntax":        {"count: 1\ndir: [1\n", "line 2: is not YAML"},
		"empty":         {"", "the file is empty"},
		"comments only": {"# nothing\n", "the file is empty"},
		"two documents": {"count: 1\n---\ncount: 2\n", "is not YAML"},
		"not a mapping": {"text", "is not a mapping"},
		"oversized":     {"dir: " + strings.Repeat("x", maxDocument), "more than"},
	} {
		var into sample
		if _, faults := Decode([]byte(row.text), "/", &into); !strings.Contains(faults.Error(), row.says) {
			t.Errorf("%s: %q, want %q", name, faults.Error(), row.says)
		}
	}
}

func TestLocate(t *testing.T) {
	var into sample
	doc, faults := Decode([]byte("count: 1\nroutes:\n  - id: a\n    scopes: [x]\n  - id: b\n"), "/", &into)
	if faults != nil {
		t.Fatal(faults)
	}
	for key, line := range map[string]int{"count": 1, "routes[0].scopes": 4, "routes[1].id": 5, "routes[1].timeout": 5, "dir": 0} {
		if got := doc.Line(key); got != line {
			t.Errorf("Line(%q) = %d, want %d", key, got, line)
		}
	}
}

// Layout and comments do not make a section a changed one; values do.
func TestSection(t *testing.T) {
	section := func(text string) string {
		var into sample
		doc, faults := Decode([]byte(text), "/", &into)
		if faults != nil {
			t.Fatal(faults)
		}
		return string(doc.Section("routes"))
	}
	a := section("routes: [{id: a}]\ncount: 1\n")
	if b := section("# why\ncount: 2\nroutes:\n  - id: a # here\n"); a != b {
		t.Errorf("the same section differs:\n%s\n%s", a, b)
	}
	if b := section("routes: [{id: b}]\n"); a == b {
		t.Error("a changed section is told the same")
	}
}
