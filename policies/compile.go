package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reserved is the first word of the packages that are Gatehouse's own.
const reserved = "gatehouse"

// maxErrors bounds what one load reports.
const maxErrors = 100

// program is compiled Rego.
type program struct {
	compiler *ast.Compiler
	// policies are the packages that define allow, by name, sorted.
	policies []string
}

// compile parses and compiles the sources. What the parser finds in all files
// is reported together; then what the compiler finds in all files.
func compile(dir string, sources []source) (p program, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = Faults{{File: dir, Reason: fmt.Sprintf("OPA's compiler panicked on these policies: %v", panicked)}}
		}
	}()
	modules, faults := parse(dir, sources)
	if err := faults.err(); err != nil {
		return program{}, err
	}
	compiler := newCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		faults.addAST(dir, compiler.Errors)
		return program{}, faults.err()
	}
	policies, faults := deciding(modules)
	return program{compiler: compiler, policies: policies}, faults.err()
}

// newCompiler has the language and the functions that policies have, and those
// named besides.
func newCompiler(extra ...string) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(capabilities(extra...)).
		WithSchemas(inputSchema()).
		WithStrict(true).
		WithEnablePrintStatements(true). // else print is erased, not refused
		SetErrorLimit(maxErrors)
}

// parse turns the sources into modules by file, and checks their packages.
func parse(dir string, sources []source) (map[string]*ast.Module, Faults) {
	var faults Faults
	modules := map[string]*ast.Module{}
	options := ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()}
	for _, s := range sources {
		module, err := ast.ParseModuleWithOpts(s.file, s.text, options)
		if err != nil {
			faults.addParse(s.file, err)
			continue
		}
		if err := checkPackage(module, s.own); err != nil {
			faults.add(s.file, module.Package.Location.Row, "%s", err)
			continue
		}
		modules[s.file] = module
	}
	return modules, faults
}

// packageName is "orders.approve" for `package orders.approve`.
func packageName(m *ast.Module) (string, error) {
	words := make([]string, 0, len(m.Package.Path))
	for _, term := range m.Package.Path[1:] {
		word, ok := term.Value.(ast.String)
		if !ok || !ast.IsVarCompatibleString(string(word)) {
			return "", fmt.Errorf("%s: a package is named by words joined by dots, so that a route can name it", m.Package)
		}
		words = append(words, string(word))
	}
	return strings.Join(words, "."), nil
}

func checkPackage(m *ast.Module, own bool) error {
	name, err := packageName(m)
	if err != nil {
		return err
	}
	if word, _, _ := strings.Cut(name, "."); word == reserved && !own {
		return fmt.Errorf("package %s: packages that begin with %s are built in: choose another name", name, reserved)
	}
	return nil
}

// deciding lists the packages that define allow, and refuses an allow that
// could not be a plain yes or no.
func deciding(modules map[string]*ast.Module) ([]string, Faults) {
	var faults Faults
	var names []string
	for file, module := range modules {
		name, _ := packageName(module)
		for _, rule := range module.Rules {
			if !isRule(rule, "allow") {
				continue
			}
			names = append(names, name)
			if problem := unfit(rule); problem != "" {
				faults.add(file, rule.Location.Row, "%s", problem)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), faults
}

func isRule(rule *ast.Rule, name string) bool {
	return string(rule.Head.Ref()[0].Value.(ast.Var)) == name
}

func unfit(rule *ast.Rule) string {
	switch {
	case len(rule.Head.Args) > 0:
		return "allow is a function: write it as `allow if …`"
	case len(rule.Head.Ref()) > 1, rule.Head.DocKind() != ast.CompleteDoc:
		return "allow is a collection: write it as `allow if …`"
	case rule.Default && !rule.Head.Value.Equal(ast.BooleanTerm(false)):
		return "allow is not false by default: a policy that comes to no answer must deny"
	}
	return ""
}
