package policies

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"
)

// testTime bounds one Rego test: many evaluations, on a machine that may be
// busy with others.
const testTime = 10 * time.Second

// TestOutcome is how a Rego test ended.
type TestOutcome string

// A skipped test is one named todo_test_….
const (
	TestPassed  TestOutcome = "passed"
	TestFailed  TestOutcome = "failed"
	TestError   TestOutcome = "error"
	TestSkipped TestOutcome = "skipped"
)

// TestResult is one Rego test.
type TestResult struct {
	// Package and Name say which test it was, e.g. "orders.approve_test" and
	// "test_clerk_may_not".
	Package, Name string
	File          string
	Line          int
	Outcome       TestOutcome
	// Detail says what went wrong: the cases that failed, or the error.
	Detail   string
	Duration time.Duration
}

// RunTests runs the tests (*_test.rego) below dir and those of the built-in
// policy, in the language and with the functions that policies have in the
// gateway. An empty dir means the built-in ones alone. The error is Faults
// where the policies or the tests themselves are broken; a test that fails is
// no error but a result. The results are in the order of files and lines.
func RunTests(ctx context.Context, dir string) ([]TestResult, error) {
	found, err := read(dir)
	if err != nil {
		return nil, err
	}
	// As in the gateway: what only the tests make sound is not sound.
	if _, err := build(dir, found.sources); err != nil {
		return nil, err
	}
	modules, faults := parse(dir, found.sources)
	if err := faults.err(); err != nil {
		return nil, err
	}
	return runTests(ctx, dir, modules)
}

func runTests(ctx context.Context, dir string, modules map[string]*ast.Module) ([]TestResult, error) {
	compiler := newCompiler("internal.test_case")
	ended, err := tester.NewRunner().
		SetCompiler(compiler).
		SetModules(modules).
		SetDefaultRegoVersion(ast.RegoV1).
		RaiseBuiltinErrors(true).
		SetTimeout(testTime).
		RunTests(ctx, nil)
	if err != nil {
		faults := Faults{}
		if !compiler.Failed() {
			return nil, fmt.Errorf("running the policies' tests: %w", err)
		}
		faults.addAST(dir, compiler.Errors)
		return nil, faults.err()
	}
	var results []TestResult
	for r := range ended {
		results = append(results, testResult(r))
	}
	slices.SortFunc(results, func(a, b TestResult) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	return results, ctx.Err()
}

func testResult(r *tester.Result) TestResult {
	result := TestResult{
		Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name,
		File: r.Location.File, Line: r.Location.Row,
		Outcome: TestPassed, Duration: r.Duration,
	}
	switch {
	case r.Error != nil:
		result.Outcome, result.Detail = TestError, r.Error.Error()
	case r.Fail:
		result.Outcome, result.Detail = TestFailed, failedCases(r)
	case r.Skip:
		result.Outcome = TestSkipped
	}
	return result
}

// failedCases names the cases of a test that has several.
func failedCases(r *tester.Result) string {
	var failed []string
	for path, sub := range r.SubResults.Iter {
		if sub.Fail {
			failed = append(failed, strings.Join(path, "/"))
		}
	}
	if len(failed) == 0 {
		return "its body is false or undefined"
	}
	return "cases: " + strings.Join(failed, ", ")
}
