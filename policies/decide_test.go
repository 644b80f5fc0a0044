package policies

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const approve = `package orders.approve

default allow := false

allow if "approver" in input.token.roles

reason := sprintf("%s is no approver", [input.token.subject]) if not allow
`

func decide(t *testing.T, set *Set, policy string, in Input) Verdict {
	t.Helper()
	verdict, err := set.Decide(t.Context(), policy, in)
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

func TestBothPoliciesMustAllow(t *testing.T) {
	set := files{"approve.rego": approve}.load(t)
	for _, test := range []struct {
		name          string
		policy        string
		scopes, roles []string
		want          Verdict
	}{
		{"both", "orders.approve", []string{"write:orders"}, []string{"approver"}, Verdict{Allow: true}},
		{"scopes alone", "", []string{"write:orders"}, nil, Verdict{Allow: true}},
		{"the built-in one named", ScopePolicy, []string{"write:orders"}, nil, Verdict{Allow: true}},
		{"no scope", "", nil, nil, Verdict{DeniedBy: ScopePolicy, Reason: "the token lacks write:orders"}},
		{"no scope, though approver", "orders.approve", []string{"read:orders"}, []string{"approver"}, Verdict{DeniedBy: ScopePolicy, Reason: "the token lacks write:orders"}},
		{"no role, though in scope", "orders.approve", []string{"write:orders"}, []string{"clerk"}, Verdict{DeniedBy: "orders.approve", Reason: "usr_1 is no approver"}},
		{"no roles at all", "orders.approve", []string{"write:orders"}, nil, Verdict{DeniedBy: "orders.approve", Reason: "usr_1 is no approver"}},
	} {
		in := request()
		in.Token.Scopes, in.Token.Roles = test.scopes, test.roles
		if diff := cmp.Diff(test.want, decide(t, set, test.policy, in)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// Only true allows.
func TestWhatIsNotTrueDenies(t *testing.T) {
	for name, rule := range map[string]string{
		"false":            `allow := false`,
		"the text true":    `allow := "true"`,
		"one":              `allow := 1`,
		"null":             `allow := null`,
		"an object":        `allow := {"allow": true}`,
		"an array":         `allow := [true]`,
		"a set":            `allow := {true}`,
		"undefined":        `allow if input.token.subject == "nobody"`,
		"by default false": "default allow := false\nallow if input.token.subject == \"nobody\"",
		"an absent claim":  `allow if input.token.claims.admin`,
		"a truthy claim":   `allow := input.token.claims.tenant`,
	} {
		set := files{"x.rego": "package team.x\n" + rule + "\n"}.load(t)
		if got := decide(t, set, "team.x", request()); got != (Verdict{DeniedBy: "team.x"}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What cannot be evaluated is an error, not a verdict: the caller answers 503.
func TestWhatCannotBeEvaluatedIsAnError(t *testing.T) {
	// No JSON holds such a number: it makes OPA itself panic.
	malformed := json.Number("many")
	for name, test := range map[string]struct{ rule, want string }{
		"rules that contradict": {"allow := true if input.route.id\nallow := false if input.request.path", "eval_conflict_error"},
		"a built-in that fails": {`allow if to_number(input.request.path) > 1`, "eval_builtin_error"},
		"a failure under not":   {`allow if not to_number(input.request.path) > 1`, "eval_builtin_error"},
		"a bad pattern":         {`allow if regex.match(input.request.method, "(")` + "\n" + `allow if regex.match("(", input.request.method)`, "eval_builtin_error"},
		"division by zero":      {`allow if 1 / count(input.token.claims.tenant) > count(input.request.headers) / 0`, "divide by zero"},
		"a policy not loaded":   {"", "no such policy is loaded"},
		"a panic inside OPA":    {`allow if input.token.claims.level + 1 > 3`, "OPA panicked: illegal value"},
	} {
		f := files{}
		if test.rule != "" {
			f["x.rego"] = "package team.x\n" + test.rule + "\n"
		}
		in := request()
		in.Token.Claims["level"] = malformed
		got, err := f.load(t).Decide(t.Context(), "team.x", in)
		if err == nil || !strings.Contains(err.Error(), test.want) || got != (Verdict{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %v", name, err)
		}
	}
}

func TestUnknownPolicyCanBeToldApart(t *testing.T) {
	set := files{}.load(t)
	if _, err := set.Decide(t.Context(), "orders.approve", request()); !errors.Is(err, ErrUnknownPolicy) {
		t.Error(err)
	}
	var none *Set
	if verdict, err := none.Decide(t.Context(), "", request()); err == nil {
		t.Errorf("no set decided: %+v", verdict)
	}
}

// endless has far more combinations than any deadline allows for.
const endless = `package team.slow

digits := "0123456789"

allow if {
	some a in split(digits, "")
	some b in split(digits, "")
	some c in split(digits, "")
	some d in split(digits, "")
	some e in split(digits, "")
	some f in split(digits, "")
	some g in split(digits, "")
	some h in split(digits, "")
	concat("", [a, b, c, d, e, f, g, h]) == input.request.path
}
`

func TestEvaluationIsBounded(t *testing.T) {
	set := files{"slow.rego": endless}.load(t)
	start := time.Now()
	_, err := set.Decide(t.Context(), "team.slow", request())
	if err == nil || !strings.Contains(err.Error(), "not finished within 250ms") {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestEvaluationEndsWithItsCaller(t *testing.T) {
	set := files{"slow.rego": endless}.load(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := set.Decide(ctx, "team.slow", request()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Nothing of a decision outlives it: no goroutine, no timer.
func TestDecideLeavesNothingBehind(t *testing.T) {
	set := files{}.load(t)
	synctest.Test(t, func(t *testing.T) {
		if _, err := set.Decide(context.Background(), "", request()); err != nil {
			t.Error(err)
		}
	})
}

// A reason is a courtesy: one that fails, is no text, or is endless changes
// nothing about the denial.
func TestReason(t *testing.T) {
	for name, test := range map[string]struct{ rule, want string }{
		"none":      {``, ""},
		"text":      {`reason := "not today"`, "not today"},
		"undefined": {`reason := "x" if input.token.subject == "nobody"`, ""},
		"no text":   {`reason := 42`, ""},
		"failing":   {`reason := x if x := sprintf("%d", [to_number(input.request.path)])`, "could not be evaluated"},
		"long":      {`reason := concat("", [c | some c in split(sprintf("%0600d", [0]), "")])`, strings.Repeat("0", maxReason) + "…"},
	} {
		set := files{"x.rego": "package team.x\ndefault allow := false\n" + test.rule + "\n"}.load(t)
		got := decide(t, set, "team.x", request())
		if got.Allow || got.DeniedBy != "team.x" || !strings.Contains(got.Reason, test.want) || (test.want == "" && got.Reason != "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestLibrariesAndSubfolders(t *testing.T) {
	set := files{
		"lib/people.rego":          "package lib.people\nmay(role) if role in input.token.roles\n",
		"orders/deep/approve.rego": "package orders.approve\nimport data.lib.people\nallow if people.may(\"approver\")\n",
		"orders/other.rego":        "package orders.other\nallow if data.lib.people.may(\"nobody\")\n",
		"orders/x_test.rego":       "package orders.sneaky\nallow := true\n",
		"README.md":                "not Rego",
		".git/x.rego":              "not Rego either",
	}.load(t)
	if diff := cmp.Diff([]string{"gatehouse.scopes", "orders.approve", "orders.other"}, set.Names()); diff != "" {
		t.Error(diff)
	}
	if !decide(t, set, "orders.approve", request()).Allow {
		t.Error("denied through a library")
	}
	if decide(t, set, "orders.other", request()).Allow {
		t.Error("allowed a role that is not held")
	}
	if set.Has("lib.people") || set.Has("orders.sneaky") || !set.Has("orders.approve") {
		t.Error("a library or a test can be named on a route")
	}
}
