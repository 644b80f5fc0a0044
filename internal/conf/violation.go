// Package conf reads configuration: YAML, decoded strictly, with everything
// that is wrong reported together, each with its line, key, value and remedy.
//
// A configuration struct is its own manual: field comments give the meaning,
// unit, default and danger. Each struct validates itself and returns
// Violations with keys relative to itself; its owner puts its own key in front
// (AddUnder), and the Document finds the lines.
package conf

import (
	"fmt"
	"sort"
	"strings"
)

// Violation is one thing wrong with the configuration, worded for the person
// who has to mend it.
type Violation struct {
	// Key is the dotted path of the value, e.g. "gateway.routes[2].service".
	Key string
	// Value is the offending value; empty where there is none to show. Never a
	// secret.
	Value string
	// Problem says what is wrong, e.g. "names no service".
	Problem string
	// Remedy says what to do, e.g. "declare it under gateway.services".
	Remedy string
	// Line is the line in the file, from 1; 0 where there is none.
	Line int
}

// String is "line 12: gateway.routes[2].service: "order" names no service:
// declare it under gateway.services".
func (v Violation) String() string {
	var b strings.Builder
	if v.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", v.Line)
	}
	if v.Key != "" {
		b.WriteString(v.Key + ": ")
	}
	if v.Value != "" {
		fmt.Fprintf(&b, "%q ", v.Value)
	}
	b.WriteString(v.Problem)
	if v.Remedy != "" {
		b.WriteString(": " + v.Remedy)
	}
	return b.String()
}

// Violations are all that is wrong, in the order of the file.
type Violations []Violation

// Add appends one violation; a nil or empty value is not shown.
func (vs *Violations) Add(key string, value any, problem, remedy string) {
	shown := ""
	if value != nil {
		shown = fmt.Sprint(value)
	}
	*vs = append(*vs, Violation{Key: key, Value: shown, Problem: problem, Remedy: remedy})
}

// AddUnder appends what a part found about itself, with the part's key in
// front.
func (vs *Violations) AddUnder(prefix string, found Violations) {
	for _, v := range found {
		v.Key = join(prefix, v.Key)
		*vs = append(*vs, v)
	}
}

// Err is nil where nothing is wrong, else all violations, one a line.
func (vs Violations) Err() error {
	if len(vs) == 0 {
		return nil
	}
	return vs
}

// Error implements error: one violation a line.
func (vs Violations) Error() string {
	lines := make([]string, len(vs))
	for i, v := range vs {
		lines[i] = v.String()
	}
	return strings.Join(lines, "\n")
}

func (vs Violations) sorted() Violations {
	sort.SliceStable(vs, func(i, j int) bool { return vs[i].Line < vs[j].Line })
	return vs
}

func join(prefix, key string) string {
	switch {
	case prefix == "":
		return key
	case key == "", strings.HasPrefix(key, "["):
		return prefix + key
	default:
		return prefix + "." + key
	}
}
