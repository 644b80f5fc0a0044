package policies

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Fault is one thing wrong with the policies, worded for who wrote them.
type Fault struct {
	// File is the policy's file; the folder where no single file is at fault.
	File string
	// Line counts from 1; 0 where the fault has no place in the file.
	Line int
	// Reason says what is wrong and, where we know, what to do.
	Reason string
}

// String is "policies/orders.rego:12: the reason".
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Reason
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Reason)
}

// Faults are all that is wrong, in the order of files and lines.
type Faults []Fault

// Error implements error: one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

func (fs *Faults) add(file string, line int, format string, args ...any) {
	*fs = append(*fs, Fault{File: file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// err is nil where nothing is wrong.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(fs)
}

// addParse takes over what OPA's parser found in one file.
func (fs *Faults) addParse(file string, err error) {
	if errs, ok := errors.AsType[ast.Errors](err); ok {
		fs.addAST(file, errs)
		return
	}
	if one, ok := errors.AsType[*ast.Error](err); ok && (one.Location == nil || one.Location.Row == 0) {
		fs.add(file, 1, "the file is empty: begin it with `package`, or remove it")
		return
	}
	fs.add(file, 0, "%s", err)
}

// addAST takes over what OPA's parser and compiler found. The place is named
// by the file we gave it; dir stands in for what has none.
func (fs *Faults) addAST(dir string, errs ast.Errors) {
	for _, e := range errs {
		file, line := dir, 0
		if e.Location != nil && e.Location.File != "" {
			file, line = e.Location.File, e.Location.Row
		}
		fs.add(file, line, "%s", explain(e))
	}
}

var undefinedFunction = regexp.MustCompile(`undefined (?:built-in )?function ([A-Za-z0-9_.]+)`)

// explain is the error in one line. A built-in function that exists but is
// withheld gets the reason why, not OPA's "undefined".
func explain(e *ast.Error) string {
	if m := undefinedFunction.FindStringSubmatch(e.Message); m != nil {
		name := m[1]
		if name == "internal.print" {
			name = "print" // what the compiler makes of it
		}
		if why, ok := withheld(name); ok {
			return fmt.Sprintf("%s may not be called from a policy: %s", name, why)
		}
	}
	text := strings.Join(strings.Fields(e.Message), " ")
	if e.Code != ast.ParseErr && e.Details != nil {
		text += " (" + strings.Join(strings.Fields(strings.Join(e.Details.Lines(), " ")), " ") + ")"
	}
	return text
}
