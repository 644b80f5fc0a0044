package main

import (
	"fmt"
	"slices"
	"strings"
)

// may says what each part may import of this module besides itself. A part is
// a folder with all below it; the longest name that fits counts. A folder that
// stands nowhere here is a violation: where it belongs is to be decided.
var may = map[string][]string{
	// Public: a service that imports it gets nothing else of ours.
	"token": {},

	"proto":                {},
	"envoy":                {"proto", "internal/conf", "internal/serve"},
	"policies":             {"proto", "internal/conf"},
	"internal/conf":        {},
	"internal/whole":       {},
	"internal/serve":       {"internal/conf"},
	"internal/workload":    {"proto", "envoy", "internal/conf", "internal/serve", "internal/whole"},
	"internal/oauthclient": {},

	// These four meet over protocols, never over imports.
	"authz":        below,
	"ratelimit":    below,
	"controlplane": below,
	"issuer":       below,

	"internal/app": slices.Concat(below, []string{"authz", "ratelimit", "controlplane", "issuer", "internal/oauthclient", "sample"}),
	// The four parts are reached through internal/app alone.
	"cmd": slices.Concat(below, []string{"internal/app", "internal/oauthclient"}),

	// Samples are written as someone outside would write them.
	"sample": {"token", "policies", "internal/serve"},

	// Programs and tests that stand outside of the product.
	"e2e":            {anything},
	"internal/bench": {anything},
	"internal/tools": {"internal/conf"},
	"internal/keep":  {},
	"docs":           {},
}

// below is what the four parts may build on.
var below = []string{"token", "envoy", "proto", "policies", "internal/conf", "internal/serve", "internal/whole", "internal/workload"}

const anything = "*"

// check names each import of a package that its part may not import.
func check(module, pkg string, imports []string) []string {
	part, known := partOf(module, pkg)
	if !known {
		return []string{fmt.Sprintf("%s: stands in no part: say in internal/tools/imports/rules.go what it may import", pkg)}
	}
	var violations []string
	for _, imported := range imports {
		if imported != module && !strings.HasPrefix(imported, module+"/") {
			continue // not ours
		}
		target, _ := partOf(module, imported)
		if target == part || slices.Contains(may[part], anything) || slices.Contains(may[part], target) {
			continue
		}
		violations = append(violations, fmt.Sprintf("%s imports %s: %s may import %s", pkg, imported, part, describe(may[part])))
	}
	slices.Sort(violations)
	return slices.Compact(violations)
}

// partOf is the part that a package of this module belongs to.
func partOf(module, pkg string) (part string, known bool) {
	path := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
	for name := range may {
		if (path == name || strings.HasPrefix(path, name+"/")) && len(name) > len(part) {
			part, known = name, true
		}
	}
	return part, known
}

func describe(parts []string) string {
	if len(parts) == 0 {
		return "nothing of ours"
	}
	return "of ours only " + strings.Join(parts, ", ")
}
