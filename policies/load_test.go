package policies

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Everything that is wrong is reported at its file and line; the table states
// the faults in full.
func TestBrokenPolicies(t *testing.T) {
	const head = "package team.x\n\n"
	for name, test := range map[string]struct {
		files files
		want  []string
	}{
		"syntax": {files{"x.rego": head + "allow if {\n\tinput.token.subject ==\n}\n"},
			[]string{"x.rego:5: unexpected } token"}},
		"rego v0": {files{"x.rego": head + "allow {\n\tinput.route.id == \"x\"\n}\n"},
			[]string{"x.rego:3: `if` keyword is required before rule body"}},
		"empty file":      {files{"x.rego": ""}, []string{"x.rego:1: the file is empty: begin it with `package`, or remove it"}},
		"only a comment":  {files{"x.rego": "# later\n"}, []string{"x.rego:1: the file is empty"}},
		"no package":      {files{"x.rego": "allow := true\n"}, []string{"x.rego:1: package expected"}},
		"unused variable": {files{"x.rego": head + "allow if {\n\twho := input.token.subject\n}\n"}, []string{"x.rego:4: assigned var who unused"}},
		"unused import":   {files{"x.rego": "package team.x\n\nimport data.team.y\n\nallow := false\n"}, []string{"x.rego:3: import data.team.y unused"}},
		"shadowed input":  {files{"x.rego": head + "allow if {\n\tinput := {\"a\": 1}\n\tinput.a == 1\n}\n"}, []string{"x.rego:4: variables must not shadow input"}},
		"unsafe variable": {files{"x.rego": head + "allow if who == input.token.subject\n"}, []string{"x.rego:3: var who is unsafe"}},
		"unknown function": {files{"x.rego": head + "allow if approved(input.token.subject)\n"},
			[]string{"x.rego:3: undefined function approved"}},
		"misspelt member": {files{"x.rego": head + "allow if not \"guest\" in input.token.role\n"},
			[]string{`x.rego:3: undefined ref: input.token.role`}},
		"misspelt in an import": {files{"x.rego": "package team.x\n\nimport input.token as tok\n\nallow if tok.rolls == 1\n"},
			[]string{"x.rego:5: undefined ref"}},
		"compared with another type": {files{"x.rego": head + "allow if input.token.roles == \"approver\"\n"}, []string{"x.rego:3: match error"}},
		"a schema of its own": {files{"x.rego": "# METADATA\n# schemas:\n# - input: {type: any}\npackage team.x\n\nallow if input.admin\n"},
			[]string{"x.rego:6: undefined ref: input.admin"}},
		"recursion":           {files{"x.rego": head + "allow if other\n\nother if allow\n"}, []string{"x.rego:3: rule data.team.x.allow is recursive", "x.rego:5: rule data.team.x.other is recursive"}},
		"the default package": {files{"x.rego": "package gatehouse.scopes\n\nallow := true\n"}, []string{"x.rego:1: package gatehouse.scopes: packages that begin with gatehouse are built in"}},
		"the reserved root":   {files{"x.rego": "\npackage gatehouse\n\nscopes := {\"allow\": true}\n"}, []string{"x.rego:2: package gatehouse: packages that begin with gatehouse are built in"}},
		"no name for a route": {files{"x.rego": "package team[\"x y\"]\n\nallow := true\n"}, []string{"x.rego:1: package team[\"x y\"]: a package is named by words"}},
		"allow a set":         {files{"x.rego": head + "allow contains \"x\" if input.route.id\n"}, []string{"x.rego:3: allow is a collection"}},
		"allow an object":     {files{"x.rego": head + "allow.admin := true\n"}, []string{"x.rego:3: allow is a collection"}},
		"allow a function":    {files{"x.rego": head + "allow(x) if x == 1\n"}, []string{"x.rego:3: allow is a function"}},
		"allow by default":    {files{"x.rego": head + "default allow := true\n"}, []string{"x.rego:3: allow is not false by default"}},
		"rule beside package": {files{"x.rego": head + "allow := false\n", "y.rego": "package team\n\nx := 1\n"}, []string{"y.rego:1: package team.x conflicts with rule x"}},
		"several files": {files{
			"a.rego":   "package a\n\nallow if {\n",
			"b/b.rego": "package gatehouse.b\n",
			"c.rego":   "package c\n\nallow if\n",
		}, []string{"a.rego:4: ", "b/b.rego:1: package gatehouse.b", "c.rego:4: "}},
		"several faults in several files": {files{
			"a.rego": "package a\n\nallow if http.send({}).ok\n\nother if {\n\tx := 1\n}\n",
			"b.rego": "package b\n\nallow if input.rout.id\n",
		}, []string{"a.rego:3: http.send may not be called"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := test.files.in(t)
			_, err := Load(dir)
			faults, ok := errors.AsType[Faults](err)
			if !ok {
				t.Fatalf("the error is not Faults: %v", err)
			}
			if len(faults) < len(test.want) {
				t.Fatalf("%d faults: %v", len(faults), err)
			}
			for i, want := range test.want {
				if got := strings.TrimPrefix(faults[i].String(), dir+"/"); !strings.HasPrefix(got, want) {
					t.Errorf("fault %d:\n got %s\nwant %s…", i, got, want)
				}
			}
		})
	}
}

// A fault in a test file is no fault of the policies.
func TestBrokenTestFileIsLeftAlone(t *testing.T) {
	set := files{"x.rego": "package team.x\nallow := true\n", "x_test.rego": "package"}.load(t)
	if !set.Has("team.x") {
		t.Error(set.Names())
	}
}

func TestFoldersThatCannotBeRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "policies")
	if _, err := Load(missing); err == nil || err.Error() != missing+": reading the folder: no such file or directory" {
		t.Error(err)
	}
	huge := files{"huge.rego": "package huge\n#" + strings.Repeat("x", maxFileBytes)}.in(t)
	if _, err := Load(huge); err == nil || !strings.Contains(err.Error(), "huge.rego: has more than 262144 bytes: split it") {
		t.Error(err)
	}
	dangling := t.TempDir()
	must(t, os.Symlink("nowhere", filepath.Join(dangling, "x.rego")))
	if _, err := Load(dangling); err == nil || !strings.Contains(err.Error(), "x.rego: reading the file: no such file or directory") {
		t.Error(err)
	}
}

func TestFoldersAreBounded(t *testing.T) {
	many, large := t.TempDir(), t.TempDir()
	for i := range maxFiles + 1 {
		write(t, filepath.Join(many, strings.Repeat("x", i%100+1), strings.Repeat("y", i/100+1)+".rego"), "package x\n")
	}
	if _, err := Load(many); err == nil || !strings.HasSuffix(err.Error(), ": the folder holds more than 1000 files of Rego: is it the right one?") {
		t.Error(err)
	}
	for i := range maxBytes/maxFileBytes + 1 {
		write(t, filepath.Join(large, strings.Repeat("x", i+1)+".rego"), "package x\n#"+strings.Repeat("x", maxFileBytes-20))
	}
	write(t, filepath.Join(large, "z.rego"), "package z\n#"+strings.Repeat("x", maxFileBytes-20))
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), ": the folder holds more than 8388608 bytes of Rego: is it the right one?") {
		t.Error(err)
	}
	deep := filepath.Join(t.TempDir(), "deep")
	write(t, filepath.Join(deep, strings.Repeat("d/", maxDepth+1), "x.rego"), "package x\n")
	if _, err := Load(deep); err == nil || !strings.Contains(err.Error(), "more than 16 levels deep") {
		t.Error(err)
	}
}

// Kubernetes mounts a ConfigMap as links into a hidden folder.
func TestLinksAreFollowedOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..2026_01", "x.rego"), "package team.x\nallow := true\n")
	must(t, os.Symlink("..2026_01", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/x.rego", filepath.Join(dir, "x.rego")))
	must(t, os.Symlink(".", filepath.Join(dir, "loop")))
	other := files{"y.rego": "package team.y\nallow := true\n"}.in(t)
	must(t, os.Symlink(other, filepath.Join(dir, "shared")))
	set, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"gatehouse.scopes", "team.x", "team.y"}, set.Names()); diff != "" {
		t.Error(diff)
	}
}

// The revision follows names and texts of policies, and nothing else.
func TestRevision(t *testing.T) {
	base := files{"a.rego": "package a\nallow := true\n", "b/c.rego": "package c\n"}
	revision := func(f files) string { return f.load(t).Revision() }
	same := files{"a.rego": base["a.rego"], "b/c.rego": base["b/c.rego"], "a_test.rego": "package a_test\n", "notes.txt": "x"}
	if revision(base) != revision(same) {
		t.Error("a test or another folder made another revision")
	}
	for name, other := range map[string]files{
		"text":     {"a.rego": "package a\nallow := false\n", "b/c.rego": "package c\n"},
		"name":     {"a2.rego": base["a.rego"], "b/c.rego": base["b/c.rego"]},
		"one less": {"a.rego": base["a.rego"]},
		"none":     {},
	} {
		if revision(base) == revision(other) {
			t.Errorf("%s: the revision did not change", name)
		}
	}
}
