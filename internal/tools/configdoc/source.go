package main

import (
	"bufio"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// reader turns Go types into nodes. It parses packages as types lead to them.
type reader struct {
	root   string // the module's folder
	module string // its import path
	// packages holds the parsed ones, by import path.
	packages map[string]*goPackage
	// open are the types being read, to notice one that holds itself.
	open  []string
	fault error
}

// goPackage is the types that a package declares.
type goPackage struct {
	path  string
	types map[string]declared
}

// declared is a type with the imports of the file that it stands in.
type declared struct {
	spec    *ast.TypeSpec
	doc     *ast.CommentGroup
	imports map[string]string // name → import path
}

// scope is where an expression stands.
type scope struct {
	pkg     *goPackage
	imports map[string]string
}

// read reads the struct and all that it leads to. The error names every field
// that cannot be documented.
func read(root, folder, name string) (*node, error) {
	module, err := modulePath(root)
	if err != nil {
		return nil, err
	}
	r := &reader{root: root, module: module, packages: map[string]*goPackage{}}
	top := r.named(r.load(module+"/"+folder), name)
	return top, r.fault
}

func modulePath(root string) (string, error) {
	file, err := os.Open(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if module, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(module), nil
		}
	}
	return "", fmt.Errorf("%s names no module", file.Name())
}

func (r *reader) fail(format string, args ...any) *node {
	r.fault = errors.Join(r.fault, fmt.Errorf(format, args...))
	return &node{kind: kindText}
}

// load parses a package of this module, tests excepted.
func (r *reader) load(importPath string) *goPackage {
	if p := r.packages[importPath]; p != nil {
		return p
	}
	p := &goPackage{path: importPath, types: map[string]declared{}}
	r.packages[importPath] = p
	dir := filepath.Join(r.root, filepath.FromSlash(strings.TrimPrefix(importPath, r.module)))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		r.fail("%s: no Go files in %s", importPath, dir)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			r.fail("%w", err)
			continue
		}
		p.declare(file)
	}
	return p
}

func (p *goPackage) declare(file *ast.File) {
	imports := importsOf(file)
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.TYPE {
			continue
		}
		for _, s := range group.Specs {
			spec := s.(*ast.TypeSpec)
			doc := spec.Doc
			if doc == nil {
				doc = group.Doc
			}
			p.types[spec.Name.Name] = declared{spec: spec, doc: doc, imports: imports}
		}
	}
}

func importsOf(file *ast.File) map[string]string {
	imports := map[string]string{}
	for _, spec := range file.Imports {
		to, _ := strconv.Unquote(spec.Path.Value)
		name := to[strings.LastIndex(to, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = to
	}
	return imports
}

// named reads a declared type.
func (r *reader) named(p *goPackage, name string) *node {
	full := p.path + "." + name
	d, ok := p.types[name]
	if !ok {
		return r.fail("%s: there is no such type", full)
	}
	if slices.Contains(r.open, full) {
		return r.fail("%s: the type holds itself", full)
	}
	r.open = append(r.open, full)
	defer func() { r.open = r.open[:len(r.open)-1] }()
	n := r.expression(scope{p, d.imports}, d.spec.Type, full)
	if n.kind == kindRecord {
		n.doc = summary(name, d.doc)
	}
	return n
}

var basics = map[string]kind{
	"string": kindText, "bool": kindFlag, "float32": kindNumber, "float64": kindNumber,
	"int": kindWhole, "int8": kindWhole, "int16": kindWhole, "int32": kindWhole, "int64": kindWhole,
	"uint": kindWhole, "uint8": kindWhole, "uint16": kindWhole, "uint32": kindWhole, "uint64": kindWhole,
}

// expression reads a type as it is written; at says where, for faults.
func (r *reader) expression(in scope, written ast.Expr, at string) *node {
	switch t := written.(type) {
	case *ast.Ident:
		if k, ok := basics[t.Name]; ok {
			return &node{kind: k}
		}
		return r.named(in.pkg, t.Name)
	case *ast.StarExpr:
		return r.expression(in, t.X, at)
	case *ast.ArrayType:
		return &node{kind: kindList, of: r.expression(in, t.Elt, at)}
	case *ast.MapType:
		return &node{kind: kindMapping, of: r.expression(in, t.Value, at)}
	case *ast.SelectorExpr:
		return r.imported(in, t, at)
	case *ast.StructType:
		return r.structure(in, t, at)
	}
	return r.fail("%s: a %T cannot be written in YAML", at, written)
}

func (r *reader) imported(in scope, t *ast.SelectorExpr, at string) *node {
	qualifier, _ := t.X.(*ast.Ident)
	from := in.imports[qualifier.Name]
	switch {
	case from == "time" && t.Sel.Name == "Duration":
		return &node{kind: kindDuration}
	case from == r.module+"/internal/conf" && t.Sel.Name == "Path":
		return &node{kind: kindPath}
	case strings.HasPrefix(from, r.module+"/"):
		return r.named(r.load(from), t.Sel.Name)
	}
	return r.fail("%s: %s.%s is of another module: give it a type that can be documented", at, qualifier.Name, t.Sel.Name)
}

// structure reads the fields that have a key, as the decoder does.
func (r *reader) structure(in scope, t *ast.StructType, at string) *node {
	n := &node{kind: kindRecord}
	for _, f := range t.Fields.List {
		key := keyOf(f)
		if key == "" {
			continue
		}
		where := at + "." + f.Names[0].Name
		documented := field{key: key, comment: parseComment(f.Doc)}
		if documented.meaning == "" {
			r.fail("%s: the key %s has no comment: say what it means, its unit and its default", where, key)
		}
		documented.node = r.expression(in, f.Type, where)
		n.fields = append(n.fields, documented)
	}
	return n
}

func keyOf(f *ast.Field) string {
	if f.Tag == nil || len(f.Names) == 0 {
		return ""
	}
	tag, _ := strconv.Unquote(f.Tag.Value)
	key, _, _ := strings.Cut(reflect.StructTag(tag).Get("yaml"), ",")
	if key == "-" {
		return ""
	}
	return key
}
