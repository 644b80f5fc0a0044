package gate

import c "example.org/m/internal/conf"

type (
	// Config is one gate, as `gate:`.
	Config struct {
		// Whether it is open. Default: false.
		Open bool `yaml:"open"`
		// How wide, in metres. Default: 2.5.
		Width float64 `yaml:"width"`
		// Its keys. Default: none.
		Keys []c.Path `yaml:"keys"`
		// Doors, by name. Default: none.
		Doors map[string]*Door `yaml:"doors"`
		// Ways through it, the first that fits counts.
		Routes []Route `yaml:"routes"`
	}

	// Door is a door.
	Door struct {
		// Its colour, a word. Default: none, required.
		Colour Colour `yaml:"colour"`
	}
)

// Route says which way to go.
type Route struct {
	// Its id.
	ID string `yaml:"id"`
	// How many at once. Default: 4294967296 (4 Gi).
	Most int64 `yaml:"most"`
	// Its lock.
	Lock struct {
		// The code. Default: none.
		Code string `yaml:"code"`
	} `yaml:"lock"`
}

type Colour string
