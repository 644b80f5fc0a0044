// Package app composes the parts: one configuration file for all of them, the
// keys and certificates they need, and the ways to run them, each as a process
// of its own or all in one.
//
// The data's way: gatehouse.yaml → Load (decode, defaults, every part's
// Validate, and what only the whole can know) → Prepare (what is missing on
// disk) → Run → Reloader (edits while it runs).
package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/controlplane"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer"
	"gatehouse.dev/gatehouse/ratelimit"
)

// Config is gatehouse.yaml.
type Config struct {
	// The version of this format. Default: 1, the only one.
	Version int `yaml:"version"`
	// The folder of keys, certificates, sockets and the issuer's database, mode
	// 0700, made when missing; relative to this file. Danger: who reads it is
	// every part of this site. Default: data.
	DataDir conf.Path `yaml:"data_dir"`
	// The SPIFFE trust domain of the parts' identities. Default:
	// gatehouse.local.
	TrustDomain string `yaml:"trust_domain"`
	// The folder of Rego policies, relative to this file; reloaded when it
	// changes. Default: policies, where there is such a folder; else none, and
	// scopes alone decide.
	Policies conf.Path `yaml:"policies"`
	// What the gateway serves; the one part that is reloaded when it changes.
	Gateway controlplane.Gateway `yaml:"gateway"`
	// The issuer of this site. Default: none; then `authz.issuers` lists the
	// issuers to trust.
	Issuer *issuer.Config `yaml:"issuer"`
	// The authorizer.
	Authz authz.Config `yaml:"authz"`
	// The rate-limit service, for limits that are `shared` and for plans. Default:
	// with its defaults where gateway limits are shared; else none.
	RateLimit *ratelimit.Config `yaml:"ratelimit"`
	// The control plane.
	ControlPlane controlplane.Config `yaml:"controlplane"`
	// The Envoy that `gatehouse run` and `gatehouse envoy` start.
	Envoy envoy.Config `yaml:"envoy"`

	file source
}

// source is the file that a Config was read from.
type source struct {
	path string // as given
	dir  string // absolute
	data []byte
	doc  *conf.Document
}

// maxFile bounds what is read of a configuration file; conf says so itself when
// a file is larger than it takes.
const maxFile = 8 << 20

// Load reads, completes and validates a configuration. An error about its
// content is an *Invalid with everything that is wrong.
func Load(path string) (*Config, error) {
	// Taken first: no process that is started from here on may inherit it.
	if _, err := environmentKEK(); err != nil {
		return nil, err
	}
	file, err := read(path)
	if err != nil {
		return nil, err
	}
	c, found := file.decode()
	if c.file.doc.Keys() == nil {
		return nil, &Invalid{Path: path, Violations: found}
	}
	c.complete()
	return c, c.check(found)
}

// Path is the configuration file, as it was given.
func (c *Config) Path() string { return c.file.path }

func read(path string) (source, error) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return source{}, fmt.Errorf("finding the folder of %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return source{}, fmt.Errorf("there is no configuration at %s: `gatehouse init` writes one, --config names another", path)
	}
	if err != nil {
		return source{}, fmt.Errorf("reading the configuration: %w", err)
	}
	if info.Size() > maxFile {
		return source{}, fmt.Errorf("%s has %d bytes: is it the right file?", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return source{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return source{path: path, dir: dir, data: data}, nil
}

// decode is the configuration as written, without defaults.
func (s source) decode() (*Config, conf.Violations) {
	c := &Config{file: s}
	doc, found := conf.Decode(s.data, s.dir, c)
	c.file.doc = doc
	return c, found
}

// data is a path in the data folder.
func (c *Config) data(elements ...string) conf.Path {
	return conf.Path(filepath.Join(append([]string{string(c.DataDir)}, elements...)...))
}
