package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/golden")

// The fixture has every kind of type that a configuration struct may have.
func TestGenerate(t *testing.T) {
	into := t.TempDir()
	if err := generate("testdata/module", into); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reference.md", "gatehouse.schema.json"} {
		got, err := os.ReadFile(filepath.Join(into, name))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata/golden", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-update rewrites it): %s", name, diff)
		}
	}
}

// The schema is strict where the decoder is, and no stricter.
func TestSchema(t *testing.T) {
	config, err := read("testdata/module", rootPackage, rootType)
	if err != nil {
		t.Fatal(err)
	}
	data, err := renderSchema(config)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(data, &top); err != nil {
		t.Fatal(err)
	}
	at := func(path string) any {
		var value any = top
		for step := range strings.SplitSeq(path, "/") {
			value = value.(map[string]any)[step]
		}
		return value
	}
	for path, want := range map[string]any{
		"additionalProperties":                                                                false,
		"properties/gate/additionalProperties":                                                false,
		"properties/gate/properties/routes/items/additionalProperties":                        false,
		"properties/gate/properties/routes/items/required":                                    []any{"id"},
		"properties/gate/properties/doors/additionalProperties/required":                      []any{"colour"},
		"properties/gate/required":                                                            []any{"routes"},
		"properties/version/default":                                                          float64(1),
		"properties/wait/default":                                                             "1m30s",
		"properties/dir/default":                                                              nil, // in words: it is relative to a folder
		"properties/gate/properties/open/default":                                             false,
		"properties/gate/properties/routes/items/properties/most/default":                     float64(4294967296),
		"properties/gate/properties/routes/items/properties/lock/properties/code/description": "The code. Default: none.",
		"properties/roles/additionalProperties/items/type":                                    []any{"string", "number", "boolean", "null"},
		"properties/spare/type":                                                               []any{"object", "null"},
	} {
		if diff := cmp.Diff(want, at(path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// What cannot be documented is refused, all of it at once, and by its name.
func TestWhatCannotBeDocumented(t *testing.T) {
	into := t.TempDir()
	err := generate("testdata/broken", into)
	if err == nil {
		t.Fatal("documented")
	}
	for _, want := range []string{
		"app.Config.Silent: the key silent has no comment",
		"app.Config.Half: the key half has no comment",
		"app.Config.Call: a *ast.FuncType cannot be written in YAML",
		"app.Config.URL: url.URL is of another module",
		"example.org/b/missing: no Go files",
		"example.org/b/missing.Thing: there is no such type",
		"app.Unknown: there is no such type",
		"app.Tree: the type holds itself",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s", want)
		}
	}
	if files, _ := os.ReadDir(into); len(files) > 0 {
		t.Error("a page was written all the same")
	}
}

func TestGenerateNeedsAModule(t *testing.T) {
	if err := generate(t.TempDir(), t.TempDir()); err == nil {
		t.Error("no error without a go.mod")
	}
}
