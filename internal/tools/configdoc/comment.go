package main

import (
	"go/ast"
	"regexp"
	"strings"
)

// comment is a field's comment, taken apart.
type comment struct {
	meaning, danger, byDefault string
}

var marks = regexp.MustCompile(`(?:^|\s)(Danger|Default):\s`)

// parseComment splits at "Danger:" and "Default:", which begin a sentence,
// wherever in a line they stand.
func parseComment(group *ast.CommentGroup) comment {
	rest := strings.Join(strings.Fields(group.Text()), " ")
	var c comment
	part := &c.meaning
	for {
		at := marks.FindStringSubmatchIndex(rest)
		if at == nil {
			*part = strings.TrimSpace(rest)
			break
		}
		*part = strings.TrimSpace(rest[:at[0]])
		if part = &c.danger; rest[at[2]:at[3]] == "Default" {
			part = &c.byDefault
		}
		rest = rest[at[1]:]
	}
	c.byDefault = strings.TrimSuffix(c.byDefault, ".")
	if strings.HasSuffix(c.byDefault, "required") {
		c.byDefault = "" // "none, required"
	}
	return c
}

// summary is a type's comment without its name, which speaks to a programmer:
// "Config is the gate" becomes "The gate", "Lock says how" becomes "Says how".
func summary(name string, group *ast.CommentGroup) string {
	doc := strings.Join(strings.Fields(group.Text()), " ")
	rest, named := strings.CutPrefix(doc, name+" ")
	if !named || rest == "" {
		return doc
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
	return strings.ToUpper(rest[:1]) + rest[1:]
}
