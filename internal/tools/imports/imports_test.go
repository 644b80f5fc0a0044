package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRules(t *testing.T) {
	const m = "example.org/m"
	for _, test := range []struct {
		pkg, imported string
		allowed       bool
	}{
		{"cmd/gatehouse", "internal/app", true},
		{"cmd/gatehouse", "envoy", true},
		{"cmd/gatehouse", "authz", false},
		{"internal/app", "authz", true},
		{"internal/app", "controlplane/ca", true},
		{"internal/app", "cmd/gatehouse", false},
		{"authz", "token", true},
		{"authz", "proto/gatehouse/rule/v1", true},
		{"authz", "internal/serve", true},
		{"authz", "issuer", false},
		{"authz", "controlplane/ca", false},
		{"authz", "internal/app", false},
		{"controlplane", "controlplane/ca", true},
		{"controlplane", "authz", false},
		{"issuer/store/bolt", "issuer/store", true},
		{"issuer/store", "controlplane", false},
		{"ratelimit", "authz", false},
		{"token", "internal/conf", false},
		{"token", "proto/gatehouse/rule/v1", false},
		{"token/tokentest", "token", true},
		{"envoy", "proto/gatehouse/rule/v1", true},
		{"envoy", "internal/conf", true},
		{"envoy", "internal/serve", true},
		{"envoy", "policies", false},
		{"policies", "internal/conf", true},
		{"policies", "token", false},
		{"proto/gatehouse/rule/v1", "token", false},
		{"internal/conf", "internal/serve", false},
		{"internal/serve", "internal/conf", true},
		{"e2e", "internal/app", true},
		{"authzextra", "token", false}, // a prefix of letters is no folder
		{"unheard/of", "token", false},
	} {
		got := check(m, m+"/"+test.pkg, []string{"fmt", "example.org/mother/authz", m + "/" + test.imported})
		if (len(got) == 0) != test.allowed {
			t.Errorf("%s imports %s: %v", test.pkg, test.imported, got)
		}
	}
}

// A whole module, seen through go list: imports of tests count too.
func TestRunFindsViolations(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                  "module example.org/m\n\ngo 1.26\n",
		"token/token.go":          "package token\n",
		"issuer/issuer.go":        "package issuer\n\nimport _ \"example.org/m/token\"\n",
		"authz/authz.go":          "package authz\n\nimport _ \"example.org/m/issuer\"\n",
		"controlplane/cp.go":      "package controlplane\n",
		"controlplane/in_test.go": "package controlplane\n\nimport _ \"example.org/m/authz\"\n",
		"controlplane/ex_test.go": "package controlplane_test\n\nimport _ \"example.org/m/issuer\"\n",
		"util/util.go":            "package util\n",
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	violations, err := run(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range violations {
		got = append(got, strings.Split(v, ": ")[0])
	}
	want := []string{
		"example.org/m/authz imports example.org/m/issuer",
		"example.org/m/controlplane imports example.org/m/authz",
		"example.org/m/controlplane imports example.org/m/issuer",
		"example.org/m/util",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRunNeedsAModule(t *testing.T) {
	if _, err := run(t.TempDir()); err == nil {
		t.Error("no error without a module")
	}
}
