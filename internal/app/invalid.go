package app

import (
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/policies"
)

// Invalid is all that is wrong with a configuration.
type Invalid struct {
	// Path is the file, as it was given.
	Path       string
	Violations conf.Violations
	// Policies are the faults of the policies that it names.
	Policies policies.Faults
}

// Error implements error: one violation a line, each with file and line.
func (i *Invalid) Error() string { return strings.Join(i.Lines(), "\n") }

// Lines are the violations in words, such as `gatehouse.yaml:12:
// gateway.routes[0].service: "order" names no service: …`.
func (i *Invalid) Lines() []string {
	var lines []string
	for _, v := range i.Violations {
		at := i.Path
		if v.Line > 0 {
			at = fmt.Sprintf("%s:%d", i.Path, v.Line)
		}
		v.Line = 0
		lines = append(lines, at+": "+v.String())
	}
	for _, f := range i.Policies {
		lines = append(lines, f.String())
	}
	return lines
}
