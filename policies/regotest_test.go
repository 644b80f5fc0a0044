package policies

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The built-in policies' own tests pass.
func TestBuiltInPolicies(t *testing.T) {
	results, err := RunTests(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 10 {
		t.Errorf("only %d tests ran", len(results))
	}
	for _, r := range results {
		if r.Outcome != TestPassed {
			t.Errorf("%s:%d %s: %s: %s", r.File, r.Line, r.Name, r.Outcome, r.Detail)
		}
	}
}

// The folder that the built-in policies are kept in is a folder like others;
// an altered copy of one is no built-in policy.
func TestFolderOfTheBuiltInPolicies(t *testing.T) {
	results, err := RunTests(t.Context(), ".")
	if err != nil || len(results) < 10 {
		t.Errorf("%d results, %v", len(results), err)
	}
	own, err := readBuiltin()
	must(t, err)
	altered := files{own[0].name: own[0].text + "\nallow if true\n"}.in(t)
	if _, err := Load(altered); err == nil {
		t.Error("an altered copy was loaded")
	}
}

func TestRunTestsReportsEachTest(t *testing.T) {
	dir := files{
		"approve.rego": approve,
		"approve_test.rego": `package orders.approve_test

import data.orders.approve

test_approver if approve.allow with input as {"token": {"roles": ["approver"]}}

test_wrong if approve.allow with input as {"token": {"roles": []}}

todo_test_later if approve.allow

test_failing_call if to_number(input.token.subject) == 1 with input as {"token": {"subject": "x"}}

test_cases[name] if {
	some name, role in {"clerk": "clerk", "approver": "approver"}
	approve.allow with input as {"token": {"roles": [role]}}
}
`,
	}.in(t)
	results, err := RunTests(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		if r.Package == "orders.approve_test" {
			got = append(got, r.Name+" "+string(r.Outcome))
			if !strings.HasSuffix(r.File, "approve_test.rego") || r.Line == 0 {
				t.Errorf("%s is said to be at %s:%d", r.Name, r.File, r.Line)
			}
			if (r.Detail == "") != (r.Outcome == TestPassed || r.Outcome == TestSkipped) {
				t.Errorf("%s: detail %q", r.Name, r.Detail)
			}
		}
	}
	want := []string{"test_approver passed", "test_wrong failed", "todo_test_later skipped", "test_failing_call error", "test_cases failed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Tests run under the same restrictions, and cannot make a policy sound that
// the gateway would refuse.
func TestRunTestsRefusesWhatTheGatewayRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		files files
		want  string
	}{
		"a withheld function in a test": {files{"x_test.rego": "package x_test\n\ntest_x if http.send({}).ok\n"}, "x_test.rego:3: http.send may not be called"},
		"a test of a reserved package":  {files{"x_test.rego": "package gatehouse.scopes_test\n\ntest_x if 1 == 1\n"}, "x_test.rego:1: package gatehouse.scopes_test"},
		"a broken test":                 {files{"x_test.rego": "package x_test\n\ntest_x if\n"}, "x_test.rego:4: "},
		"a broken policy":               {files{"x.rego": "package x\n\nallow if helper\n", "x_test.rego": "package x\n\nhelper := true\n"}, "x.rego:3: "},
		"an unused variable in a test":  {files{"x_test.rego": "package x_test\n\ntest_x if {\n\ty := 1\n}\n"}, "x_test.rego:4: assigned var y unused"},
	} {
		if _, err := RunTests(t.Context(), test.files.in(t)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
