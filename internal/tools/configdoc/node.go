package main

// kind is what a key takes.
type kind string

const (
	kindText     kind = "text"
	kindPath     kind = "file path"
	kindFlag     kind = "true or false"
	kindWhole    kind = "whole number"
	kindNumber   kind = "number"
	kindDuration kind = "duration"
	kindList     kind = "list"
	kindMapping  kind = "mapping"
	kindRecord   kind = "section"
)

// node is a type as the configuration file sees it.
type node struct {
	kind kind
	// doc is the comment of a record's type.
	doc string
	// of is what a list or a mapping holds.
	of *node
	// fields are a record's keys, in the order of the struct.
	fields []field
}

// field is one key of a record.
type field struct {
	key  string
	node *node
	comment
}

// required is a key that has no default. A section is never required: the keys
// in it are.
func (f field) required() bool {
	return f.node.kind != kindRecord && f.byDefault == ""
}
