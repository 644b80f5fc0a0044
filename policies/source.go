package policies

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/version"
)

// Bounds of a folder of policies: far beyond what people write, and small
// enough that a wrong folder is noticed before it is read.
const (
	maxFiles     = 1000
	maxFileBytes = 256 << 10
	maxBytes     = 8 << 20
	maxDepth     = 16
)

//go:embed gatehouse/*.rego
var builtin embed.FS

// source is one file of Rego.
type source struct {
	// name is relative to the folder, with slashes: the same on every machine.
	name string
	// file is what faults are reported under.
	file string
	text string
	// own is set for the built-in policies, which alone may be in `gatehouse`.
	own bool
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.rego") }

// folder is what a folder of policies held at one moment.
type folder struct {
	sources []source
	// dirs are the folders that were read, the links among them resolved.
	dirs []string
}

// read collects the built-in policies and every *.rego below dir.
func read(dir string) (folder, error) {
	own, err := readBuiltin()
	if err != nil {
		return folder{}, err
	}
	r := reader{root: dir, found: folder{sources: own}, seen: map[string]bool{}}
	if dir != "" {
		r.enter("", 0)
	}
	slices.SortFunc(r.found.sources, func(a, b source) int { return strings.Compare(a.file, b.file) })
	return r.found, r.faults.err()
}

func readBuiltin() ([]source, error) {
	var own []source
	names, err := fs.Glob(builtin, "gatehouse/*.rego")
	for _, name := range names {
		text, readErr := fs.ReadFile(builtin, name)
		err = errors.Join(err, readErr)
		own = append(own, source{name: name, file: "(built in) " + name, text: string(text), own: true})
	}
	return own, err
}

// reader walks a folder by hand, because Kubernetes mounts files and folders
// as links, which filepath.WalkDir leaves alone.
type reader struct {
	root   string
	found  folder
	seen   map[string]bool
	files  int
	bytes  int
	faults Faults
}

// enter reads one folder below the root; name is relative, with slashes.
func (r *reader) enter(name string, depth int) {
	at := filepath.Join(r.root, filepath.FromSlash(name))
	real, err := filepath.EvalSymlinks(at)
	if err != nil {
		r.faults.add(at, 0, "reading the folder: %s", cause(err))
		return
	}
	if r.seen[real] {
		return // a link back to a folder that was read
	}
	r.seen[real] = true
	if depth > maxDepth {
		r.faults.add(at, 0, "the folder is more than %d levels deep: keep policies flatter", maxDepth)
		return
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		r.faults.add(at, 0, "reading the folder: %s", cause(err))
		return
	}
	r.found.dirs = append(r.found.dirs, real)
	for _, entry := range entries {
		r.entry(path.Join(name, entry.Name()), depth)
	}
}

func (r *reader) entry(name string, depth int) {
	base := path.Base(name)
	if strings.HasPrefix(base, ".") {
		return // version control, editors, and the inside of a ConfigMap
	}
	at := filepath.Join(r.root, filepath.FromSlash(name))
	info, err := os.Stat(at)
	switch {
	case err != nil:
		if strings.HasSuffix(base, ".rego") {
			r.faults.add(at, 0, "reading the file: %s", cause(err))
		}
	case info.IsDir():
		r.enter(name, depth+1)
	case strings.HasSuffix(base, ".rego"):
		r.file(name, at, info)
	}
}

func (r *reader) file(name, at string, info fs.FileInfo) {
	r.files++
	if r.files == maxFiles+1 {
		r.faults.add(r.root, 0, "the folder holds more than %d files of Rego: is it the right one?", maxFiles)
	}
	if r.files > maxFiles || r.bytes > maxBytes {
		return
	}
	if !info.Mode().IsRegular() {
		r.faults.add(at, 0, "is not a regular file: remove it")
		return
	}
	text, err := readBounded(at)
	if err != nil {
		r.faults.add(at, 0, "%s", err)
		return
	}
	if r.copies(name, text) {
		return
	}
	if r.bytes += len(text); r.bytes > maxBytes {
		r.faults.add(r.root, 0, "the folder holds more than %d bytes of Rego: is it the right one?", maxBytes)
		return
	}
	r.found.sources = append(r.found.sources, source{name: name, file: at, text: text})
}

// copies tells whether a file is one of the built-in policies: the folder that
// they are kept in can be tested like any other.
func (r *reader) copies(name, text string) bool {
	return slices.ContainsFunc(r.found.sources, func(s source) bool {
		return s.own && s.name == name && s.text == text
	})
}

func readBounded(at string) (string, error) {
	f, err := os.Open(at)
	if err != nil {
		return "", fmt.Errorf("reading the file: %s", cause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return "", fmt.Errorf("reading the file: %s", cause(err))
	}
	if len(text) > maxFileBytes {
		return "", fmt.Errorf("has more than %d bytes: split it", maxFileBytes)
	}
	return string(text), nil
}

// cause is an I/O error without the path, which the fault names already.
func cause(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// revision names what the modules say and the language they say it in: equal
// on every machine that would decide alike. Tests do not count.
func revision(sources []source) string {
	sum := sha256.New()
	chunk(sum, "gatehouse policies 1")
	chunk(sum, version.Version)
	for _, s := range byName(sources) {
		if !s.test() {
			chunk(sum, s.name)
			chunk(sum, s.text)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// chunk hashes text with its length in front, so that no two lists of texts
// hash alike.
func chunk(sum hash.Hash, text string) {
	fmt.Fprintf(sum, "%d:%s", len(text), text)
}

func byName(sources []source) []source {
	sorted := slices.Clone(sources)
	slices.SortFunc(sorted, func(a, b source) int { return strings.Compare(a.name, b.name) })
	return sorted
}
