package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
)

var fence = regexp.MustCompile("(?s)```(\\S+ \\S+)\n(.*?)```")

// readme are the marked blocks of README.md, such as "sh setup", by their mark.
func readme(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		if blocks[found[1]] != "" {
			t.Fatalf("README.md has two blocks %q", found[1])
		}
		blocks[found[1]] = found[2]
	}
	return blocks
}

// checkout is a folder that looks like a checkout after `make build` and `make
// tools` to who types commands in it: they are not done again.
func checkout(t *testing.T) *harness.Folder {
	t.Helper()
	f := harness.NewFolder(t)
	if err := os.Mkdir(filepath.Join(f.Dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(harness.Binary(t), filepath.Join(f.Dir, "bin", "gatehouse")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(f.Dir, "Makefile"), "build:\n\t@test -x bin/gatehouse\n")
	return f
}

// insertBelow puts a line into a YAML file below the one line that is a key.
func insertBelow(t *testing.T, path, key, line string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	done := 0
	for _, l := range strings.Split(string(text), "\n") {
		out = append(out, l)
		if strings.TrimSpace(l) == key+":" {
			out = append(out, strings.TrimSuffix(line, "\n"))
			done++
		}
	}
	if done != 1 {
		t.Fatalf("%s has %d lines %q:, not one", path, done, key)
	}
	write(t, path, strings.Join(out, "\n"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(content))
}
