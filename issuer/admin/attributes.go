package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Attributes end up in tokens, which have to stay small.
const (
	maxAttributes = 16
	maxAttribute  = 256
)

// checkAttributes keeps the attributes of users and clients to what a claim can
// hold and a header can carry.
func checkAttributes(vs *conf.Violations, attributes map[string]string) {
	if len(attributes) > maxAttributes {
		vs.Add("attributes", len(attributes), "are too many", fmt.Sprintf("keep at most %d", maxAttributes))
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		key, value := "attributes."+name, attributes[name]
		if !isAttribute(name) {
			vs.Add(key, name, "is no name of an attribute", "write a lower-case letter, and letters, digits, - and _ after it, 32 at most")
		}
		if value == "" || len(value) > maxAttribute || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			vs.Add(key, value, "cannot be told in a token", fmt.Sprintf("write 1 to %d bytes of printable text, or leave it out", maxAttribute))
		}
	}
}

func isAttribute(name string) bool {
	return name != "" && len(name) <= 32 && name[0] >= 'a' && name[0] <= 'z' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}
