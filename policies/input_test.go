package policies

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

func asJSON(t *testing.T, in Input) map[string]any {
	t.Helper()
	value, err := in.document(true)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ast.JSON(value)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	must(t, json.Unmarshal(text, &document))
	return document
}

// An empty input still has every member: `not` must not meet an undefined one.
func TestEmptyInputHasEveryMember(t *testing.T) {
	full, empty := asJSON(t, request()), asJSON(t, Input{})
	for section, value := range full {
		if section == "version" {
			continue
		}
		for name := range value.(map[string]any) {
			if got, ok := empty[section].(map[string]any)[name]; !ok || got == nil {
				t.Errorf("input.%s.%s is missing or null", section, name)
			}
		}
	}
	if empty["version"] != float64(1) {
		t.Errorf("version %v", empty["version"])
	}
}

func TestTimesAreSeconds(t *testing.T) {
	in := request()
	in.Token.IssuedAt = time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("x", 3600))
	token := asJSON(t, in)["token"].(map[string]any)
	if token["issued_at"] != float64(in.Token.IssuedAt.Unix()) {
		t.Errorf("issued_at %v", token["issued_at"])
	}
}

// No credential reaches a policy, whose reasons are logged.
func TestCredentialsAreLeftOut(t *testing.T) {
	in := request()
	in.Request.Headers = map[string]string{"X-Tenant": "acme"}
	for name := range credentialHeaders {
		in.Request.Headers[name] = "secret"
		in.Request.Headers[strings.ToUpper(name)] = "secret"
	}
	headers := asJSON(t, in)["request"].(map[string]any)["headers"]
	if diff := cmp.Diff(map[string]any{"x-tenant": "acme"}, headers); diff != "" {
		t.Error(diff)
	}
}

func TestClaimsKeepTheirTypes(t *testing.T) {
	claims := map[string]any{
		"text": "x", "number": 1.5, "big": json.Number("12345678901234567890"), "yes": true, "none": nil,
		"list": []any{"a", float64(1)}, "object": map[string]any{"a": map[string]any{"b": "c"}},
	}
	in := request()
	in.Token.Claims = claims
	got := asJSON(t, in)["token"].(map[string]any)["claims"].(map[string]any)
	want := map[string]any{
		"text": "x", "number": 1.5, "big": float64(12345678901234567890), "yes": true, "none": nil,
		"list": []any{"a", float64(1)}, "object": map[string]any{"a": map[string]any{"b": "c"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Claims are handed over wherever a policy might read them, by any way that
// Rego offers; they cost too much to be handed over where none does.
func TestClaimsReachThePoliciesThatReadThem(t *testing.T) {
	for _, test := range []struct {
		rule  string
		reads bool
	}{
		{`allow if input.token.claims.tenant == "acme"`, true},
		{`allow if input["token"]["claims"].tenant == "acme"`, true},
		{"allow if {\n\ttok := input.token\n\ttok.claims.tenant == \"acme\"\n}", true},
		{"allow if {\n\twhole := input\n\twhole.token.claims.tenant == \"acme\"\n}", true},
		{`allow if input[_].claims.tenant == "acme"`, true},
		{"allow if {\n\tsome part\n\tinput[part].claims.tenant == \"acme\"\n}", true},
		{`allow if object.get(input, ["token", "claims", "tenant"], "") == "acme"`, true},
		{"allow if {\n\twalk(input, [path, \"acme\"])\n\tpath[2] == \"tenant\"\n}", true},
		{"f(doc) if doc.token.claims.tenant == \"acme\"\n\nallow if f(input)", true},
		{"import input.token.claims as c\n\nallow if c.tenant == \"acme\"", true},
		{"import input.token as tok\n\nallow if tok.claims.tenant == \"acme\"", true},
		{"import input as doc\n\nallow if doc.token.claims.tenant == \"acme\"", true},
		{`allow if input.token.roles[_] == "approver"`, false},
		{`allow if startswith(input.request.path, "/orders/")`, false},
	} {
		set := files{"x.rego": "package team.x\n\n" + test.rule + "\n"}.load(t)
		if set.readsClaims != test.reads {
			t.Errorf("%s: reads claims: %v", test.rule, set.readsClaims)
		}
		if !decide(t, set, "team.x", request()).Allow {
			t.Errorf("%s: denied", test.rule)
		}
	}
}

// The scope policy is given two members of the document: it may read no other.
func TestScopePolicyReadsWhatItIsGiven(t *testing.T) {
	own, err := readBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	modules, faults := parse("", own)
	if faults != nil {
		t.Fatal(faults)
	}
	module := modules["(built in) gatehouse/scopes.rego"]
	seen := 0
	ast.WalkRefs(module, func(ref ast.Ref) bool {
		if !ref[0].Equal(ast.InputRootDocument) {
			return false
		}
		seen++
		if name := ref.String(); name != "input.token.scopes" && name != "input.required.scopes" {
			t.Errorf("the scope policy reads %s", name)
		}
		return true
	})
	if seen == 0 {
		t.Error("the scope policy reads nothing")
	}
}
