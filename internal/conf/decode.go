package conf

import (
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// decoder walks the document beside the type it decodes into, so that it can
// go on after a fault and name each by its key.
type decoder struct {
	dir   string
	found Violations
}

func (d *decoder) fault(n *yaml.Node, key, value, problem, remedy string) {
	d.found = append(d.found, Violation{Key: key, Value: value, Problem: problem, Remedy: remedy, Line: n.Line})
}

func (d *decoder) value(n *yaml.Node, into reflect.Value, key string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fault(n, key, "", "is a YAML anchor or alias", "write the value out")
		return
	}
	if n.ShortTag() == "!!null" {
		return // an empty value is an absent one
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.value(n, into.Elem(), key)
	case reflect.Struct:
		d.structure(n, into, key)
	case reflect.Map:
		d.mapping(n, into, key)
	case reflect.Slice:
		d.sequence(n, into, key)
	default:
		d.scalar(n, into, key)
	}
}

func (d *decoder) structure(n *yaml.Node, into reflect.Value, key string) {
	fields := fieldsOf(into.Type())
	d.pairs(n, key, func(name *yaml.Node, value *yaml.Node) {
		index, ok := fields[name.Value]
		if !ok {
			d.fault(name, join(key, name.Value), "", "is not a known key", "use one of "+names(fields))
			return
		}
		d.value(value, into.Field(index), join(key, name.Value))
	})
}

func (d *decoder) mapping(n *yaml.Node, into reflect.Value, key string) {
	into.Set(reflect.MakeMap(into.Type()))
	d.pairs(n, key, func(name *yaml.Node, value *yaml.Node) {
		element := reflect.New(into.Type().Elem()).Elem()
		d.value(value, element, join(key, name.Value))
		into.SetMapIndex(reflect.ValueOf(name.Value).Convert(into.Type().Key()), element)
	})
}

// pairs calls each for every key of a mapping, once.
func (d *decoder) pairs(n *yaml.Node, key string, each func(name, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, key, n.Value, "is not a mapping", "write `key: value` lines below it")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		if name.Kind != yaml.ScalarNode {
			d.fault(name, key, "", "has a key that is not plain text", "write the key as text")
			continue
		}
		if line, twice := seen[name.Value]; twice {
			d.fault(name, join(key, name.Value), "", fmt.Sprintf("stands a second time (first on line %d)", line), "keep one of the two")
			continue
		}
		seen[name.Value] = name.Line
		each(name, n.Content[i+1])
	}
}

func (d *decoder) sequence(n *yaml.Node, into reflect.Value, key string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, key, n.Value, "is not a list", "write it as [a, b] or as `- a` lines")
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(n.Content), len(n.Content)))
	for i, element := range n.Content {
		d.value(element, into.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
}

func (d *decoder) scalar(n *yaml.Node, into reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.fault(n, key, "", "is a list or a mapping", "write a single value")
		return
	}
	if into.Kind() == reflect.String {
		// Text is text: `on`, `1` and `2026-01-01` need no quotes.
		into.SetString(n.Value)
		if into.Type() == reflect.TypeFor[Path]() {
			into.SetString(absolute(d.dir, n.Value))
		}
		return
	}
	target := reflect.New(into.Type())
	if err := n.Decode(target.Interface()); err != nil {
		what, remedy := wanted(into.Type())
		d.fault(n, key, n.Value, "is not "+what, remedy)
		return
	}
	into.Set(target.Elem())
}

// fieldsOf maps a struct's YAML keys to its field indices.
func fieldsOf(t reflect.Type) map[string]int {
	fields := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

func names(fields map[string]int) string {
	list := make([]string, 0, len(fields))
	for name := range fields {
		list = append(list, name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// wanted says what a type takes, and how to write it.
func wanted(t reflect.Type) (what, remedy string) {
	switch {
	case t.String() == "time.Duration":
		return "a duration", "write one such as 30s, 10m or 24h"
	case t.Kind() == reflect.Bool:
		return "true or false", "write one of the two"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return "a whole number", "write digits alone, within " + strconv.Itoa(t.Bits()) + " bits"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number", "write one such as 1.5"
	default:
		return "text", "write text"
	}
}

// lineInError is how the YAML library says where: "at L2.C1".
var lineInError = regexp.MustCompile(`\bL(\d+)\.C\d+`)

func syntaxError(err error) Violation {
	v := Violation{Problem: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "), Remedy: "mind the indentation and the quotes"}
	if m := lineInError.FindStringSubmatch(err.Error()); m != nil {
		v.Line, _ = strconv.Atoi(m[1])
	}
	return v
}
