package app

import (
	"sync"
	"time"

	"example.org/m/gate"
	"example.org/m/internal/conf"
)

// Config is gatehouse.yaml.
type Config struct {
	// The version of this format. Default: 1, the only one.
	Version int `yaml:"version"`
	// Where everything is kept. Danger: who reads it is
	// everybody. Default:
	// data.
	Dir conf.Path `yaml:"dir"`
	// The gate.
	Gate gate.Config `yaml:"gate"`
	// Another gate. Default: none.
	Spare *gate.Config `yaml:"spare,omitempty"`
	// What a role | a person <may> do, as `<scope>`. Default: none.
	Roles map[string][]string `yaml:"roles"`
	// How long to wait, from 1s.
	// Default: 1m30s.
	Wait time.Duration `yaml:"wait"`

	// Not a key.
	Later string `yaml:"-"`
	Bare  string
	mutex sync.Mutex
}
