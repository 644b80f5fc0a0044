package policies

import (
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Every function of OPA's that is not callable is refused when a policy that
// calls it is loaded, with its own reason.
func TestWithheldFunctionsAreRefused(t *testing.T) {
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		why, ok := withheld(b.Name)
		if !ok || strings.HasPrefix(b.Name, "internal.") {
			continue
		}
		dir := files{"x.rego": "package team.x\n\nallow if " + call(b) + "\n"}.in(t)
		want := dir + "/x.rego:3: " + b.Name + " may not be called from a policy: " + why
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
}

// call is a call with the right number of arguments of any type.
func call(b *ast.Builtin) string {
	arguments := make([]string, len(b.Decl.FuncArgs().Args))
	for i := range arguments {
		arguments[i] = "input.token.claims.x"
	}
	return b.Name + "(" + strings.Join(arguments, ", ") + ")"
}

// What must never be callable, whatever else the lists say.
func TestFunctionsThatReachOutside(t *testing.T) {
	for _, prefix := range []string{"http.", "net.", "opa.", "io.jwt.", "rand.", "uuid.", "time.now", "rego.", "providers.", "trace", "print", "crypto.x509.", "crypto.hmac."} {
		for _, b := range capabilities().Builtins {
			if strings.HasPrefix(b.Name, prefix) {
				t.Errorf("%s is callable", b.Name)
			}
		}
	}
	for _, b := range capabilities().Builtins {
		if b.IsDeprecated() || b.IsNondeterministic() {
			t.Errorf("%s is callable, though deprecated or not a pure function", b.Name)
		}
	}
}

// A withheld function is not to be had by a back door either.
func TestWithheldFunctionsByOtherWays(t *testing.T) {
	for name, rule := range map[string]string{
		"as a replacement": `allow if startswith("a", "b") with startswith as regex.globs_match`,
		"replaced":         `allow if x with opa.runtime as {"x": 1}` + "\nx := true",
		"by import":        "import data.http\nallow if http.send({}).ok",
		"as a value":       `allow if f := http.send; f`,
		"in a function":    "f(x) := opa.runtime().env[x]\nallow if f(\"HOME\") == \"/root\"",
		"in a default":     "default reason := \"x\"\nreason := y if y := time.now_ns()\nallow := true",
		"in a template":    "allow := true\nreason := $\"{rand.intn(\"x\", 5)}\"",
	} {
		dir := files{"x.rego": "package team.x\n" + rule + "\n"}.in(t)
		if _, err := Load(dir); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// The list names functions that exist: a misspelt entry would allow nothing,
// and one that OPA dropped is to be taken off.
func TestCallableFunctionsExist(t *testing.T) {
	for _, name := range callable {
		if ast.BuiltinMap[name] == nil {
			t.Errorf("OPA has no %s", name)
		}
	}
	sorted := slices.Sorted(slices.Values(callable))
	if len(slices.Compact(sorted)) != len(callable) {
		t.Error("a function stands twice in the list")
	}
}
