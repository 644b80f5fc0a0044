package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
)

// schema is a JSON Schema, as much of it as we need; its members are written
// in this order.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        []string           `json:"type"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *int               `json:"minimum,omitempty"`
	Maximum     *int               `json:"maximum,omitempty"`
	Default     any                `json:"default,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Additional is false for a section, a schema for a mapping.
	Additional any `json:"additionalProperties,omitempty"`
}

// renderSchema is docs/gatehouse.schema.json. It takes what the decoder takes:
// text without quotes even where it looks like a number, and null, an absent
// value, everywhere.
func renderSchema(config *node) ([]byte, error) {
	top := schemaOf(config)
	top.Schema = "https://json-schema.org/draft/2020-12/schema"
	top.Title, top.Description = "gatehouse.yaml", ""
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(top)
	return b.Bytes(), err
}

// A duration is text, or a plain 0.
const durationPattern = `^[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$`

var zero = new(int)

func schemaOf(n *node) *schema {
	s := &schema{Type: []string{jsonType[n.kind], "null"}}
	switch n.kind {
	case kindText, kindPath:
		s.Type = []string{"string", "number", "boolean", "null"}
	case kindDuration:
		s.Type = []string{"string", "integer", "null"}
		s.Pattern, s.Minimum, s.Maximum = durationPattern, zero, zero
	case kindList:
		s.Items = schemaOf(n.of)
	case kindMapping:
		s.Additional = schemaOf(n.of)
	case kindRecord:
		s.Additional = false
		s.Description = n.doc
		s.Properties = map[string]*schema{}
		for _, f := range n.fields {
			s.Properties[f.key] = property(f)
			if f.required() {
				s.Required = append(s.Required, f.key)
			}
		}
	}
	return s
}

var jsonType = map[kind]string{
	kindFlag: "boolean", kindWhole: "integer", kindNumber: "number",
	kindList: "array", kindMapping: "object", kindRecord: "object",
}

func property(f field) *schema {
	s := schemaOf(f.node)
	s.Description = f.meaning
	if f.danger != "" {
		s.Description += " Danger: " + f.danger
	}
	if f.byDefault != "" {
		s.Description += " Default: " + f.byDefault + "."
	}
	s.Default = defaultValue(f)
	return s
}

var (
	wholeDefault    = regexp.MustCompile(`^-?[0-9]+\b`)
	durationDefault = regexp.MustCompile(`^([0-9]+(ns|us|µs|ms|s|m|h))+$`)
)

// defaultValue is a default that is a plain value. What a default is made of
// in words is in the description alone.
func defaultValue(f field) any {
	switch f.node.kind {
	case kindFlag:
		if value, err := strconv.ParseBool(f.byDefault); err == nil {
			return value
		}
	case kindWhole:
		if value, err := strconv.ParseInt(wholeDefault.FindString(f.byDefault), 10, 64); err == nil {
			return value
		}
	case kindDuration:
		if durationDefault.MatchString(f.byDefault) {
			return f.byDefault
		}
	}
	return nil
}
