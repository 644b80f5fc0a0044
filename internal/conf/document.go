package conf

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxDocument bounds a configuration file, in bytes.
const maxDocument = 4 << 20

// Path is a file path; a relative one is relative to the configuration file.
type Path string

// Document is a decoded file that still knows where each key stands.
type Document struct {
	root *yaml.Node
}

// Decode reads one YAML document into the struct that into points to. Unknown
// and duplicate keys, aliases and values of the wrong type are violations; into
// is filled only as far as the document is sound, so do not use it when there
// are any. Relative Paths are made absolute against dir.
func Decode(data []byte, dir string, into any) (*Document, Violations) {
	if len(data) > maxDocument {
		return nil, Violations{{Problem: fmt.Sprintf("the file has %d bytes, more than %d", len(data), maxDocument), Remedy: "split what it holds"}}
	}
	var root yaml.Node
	err := yaml.Load(data, &root)
	if err != nil && !strings.Contains(err.Error(), "no documents in stream") {
		return nil, Violations{syntaxError(err)}
	}
	doc := &Document{root: &root}
	top := doc.top()
	if top == nil {
		return doc, Violations{{Problem: "the file is empty", Remedy: "`gatehouse init` writes a configuration to start from, `gatehouse export` a site to import"}}
	}
	d := decoder{dir: dir}
	d.value(top, reflect.ValueOf(into).Elem(), "")
	return doc, d.found.sorted()
}

// Locate fills in the lines of violations and puts them in the file's order. A
// key that is absent gets the line of its nearest parent.
func (d *Document) Locate(vs Violations) Violations {
	for i := range vs {
		if vs[i].Line == 0 {
			vs[i].Line = d.Line(vs[i].Key)
		}
	}
	return vs.sorted()
}

// Line is the line of a key or of its nearest parent that is there, from 1.
func (d *Document) Line(key string) int {
	node := d.top()
	line := 0
	for _, step := range steps(key) {
		if node == nil {
			break
		}
		next, at := child(node, step)
		if next == nil {
			break
		}
		node, line = next, at
	}
	return line
}

// Section is the text of a top-level key's value in a canonical form, to tell
// whether it changed; nil where the key is absent. Comments and layout do not
// count.
func (d *Document) Section(key string) []byte {
	node := d.top()
	if node == nil {
		return nil
	}
	value, _ := child(node, key)
	if value == nil {
		return nil
	}
	var b strings.Builder
	canonical(&b, value)
	return []byte(b.String())
}

// Keys are the top-level keys, in the file's order.
func (d *Document) Keys() []string {
	node := d.top()
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(node.Content); i += 2 {
		keys = append(keys, node.Content[i].Value)
	}
	return keys
}

func (d *Document) top() *yaml.Node {
	if d == nil || d.root == nil || len(d.root.Content) == 0 {
		return nil
	}
	return d.root.Content[0]
}

func canonical(b *strings.Builder, n *yaml.Node) {
	fmt.Fprintf(b, "%d %s %q [", n.Kind, n.ShortTag(), n.Value)
	for _, c := range n.Content {
		canonical(b, c)
	}
	b.WriteString("]")
}

// child is the value of a mapping's key or a sequence's "[i]", and its line.
func child(n *yaml.Node, step string) (*yaml.Node, int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		var i int
		if _, err := fmt.Sscanf(step, "[%d]", &i); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// steps splits "a.b[2].c" into a, b, [2], c.
func steps(key string) []string {
	return strings.FieldsFunc(strings.ReplaceAll(key, "[", ".["), func(r rune) bool { return r == '.' })
}

func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
