// Command configdoc writes the reference of gatehouse.yaml from the structs
// that it is decoded into: docs/reference.md for people, and a JSON Schema,
// docs/gatehouse.schema.json, for editors.
//
// The structs are the manual. A field's comment says what the key means, in
// which unit; "Danger:" begins what can go wrong, "Default:" the value that an
// absent key has. A key without a default must be given.
//
// It runs in the module's root and reads the source alone, so that it works on
// a tree that does not compile.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// root is the struct that the whole file is decoded into.
const (
	rootPackage = "internal/app"
	rootType    = "Config"
)

func main() {
	if err := generate(".", "docs"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(module, into string) error {
	config, err := read(module, rootPackage, rootType)
	if err != nil {
		return fmt.Errorf("documenting the configuration:\n%w", err)
	}
	schema, err := renderSchema(config)
	if err != nil {
		return fmt.Errorf("rendering the schema: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(into, "reference.md"), renderPage(config), 0o644),
		os.WriteFile(filepath.Join(into, "gatehouse.schema.json"), schema, 0o644),
	)
}
