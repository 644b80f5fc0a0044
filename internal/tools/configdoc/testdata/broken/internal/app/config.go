package app

import (
	"net/url"

	"example.org/b/missing"
)

// Config is the file.
type Config struct {
	Silent string `yaml:"silent"`
	// Default: said, but not what it means.
	Half string `yaml:"half"`
	// A function.
	Call func() `yaml:"call"`
	// Of another module.
	URL url.URL `yaml:"url"`
	// Of a package that is not there.
	Gone missing.Thing `yaml:"gone"`
	// A type that is not there.
	Unknown Unknown `yaml:"unknown"`
	// A list of itself.
	Tree Tree `yaml:"tree"`
}

// Tree holds trees.
type Tree struct {
	// Its branches.
	Branches []Tree `yaml:"branches"`
}
