package policies

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Store keeps the current policies of a folder. A change is compiled beside
// them and takes their place whole; a change that does not compile is logged
// and leaves them as they are.
type Store struct {
	dir     string
	logger  *slog.Logger
	metrics *storeMetrics
	current atomic.Pointer[Set]

	// settle is how long the folder must be quiet before it is read, so that
	// a file is not read half written. poll is how often it is read anyway:
	// not every file system tells of changes.
	settle, poll time.Duration

	mu      sync.Mutex
	refused error
	// seen identifies what the last attempt read, good or bad, so that each
	// distinct failure is logged once.
	seen string
}

// NewStore loads the policies of dir; an empty dir means the built-in policy
// alone. It fails with Faults where they cannot be loaded: a process does not
// start on policies that it does not understand. The registerer may be nil.
func NewStore(dir string, logger *slog.Logger, registerer prometheus.Registerer) (*Store, error) {
	if logger == nil {
		return nil, errors.New("policies: a logger is needed")
	}
	set, err := Load(dir)
	if err != nil {
		return nil, err
	}
	m, err := newStoreMetrics(registerer)
	if err != nil {
		return nil, fmt.Errorf("registering the policies' metrics: %w", err)
	}
	s := &Store{
		dir: dir, logger: logger, metrics: m,
		settle: 100 * time.Millisecond, poll: 5 * time.Second,
		seen: set.Revision(),
	}
	s.current.Store(set)
	m.loaded(set.Revision())
	return s, nil
}

// Current is the policies to decide with: load it once per request.
func (s *Store) Current() *Set { return s.current.Load() }

// LastError is why the folder as it is now was refused (Faults); nil where
// Current is what the folder says.
func (s *Store) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// reload reads the folder and takes over what is sound. It returns the folders
// that it read.
func (s *Store) reload() []string {
	found, state, err := look(s.dir)
	if !s.isNew(state) {
		return found.dirs
	}
	// Files are read one after the other. What changed meanwhile would be a
	// mixture that nobody wrote: it is left to the next round.
	if _, again, _ := look(s.dir); again != state {
		return found.dirs
	}
	if err != nil {
		s.refuse(state, err)
		return found.dirs
	}
	if state == s.Current().Revision() {
		s.accept(s.Current()) // a bad edit was taken back
		return found.dirs
	}
	set, err := build(s.dir, found.sources)
	if err != nil {
		s.refuse(state, err)
		return found.dirs
	}
	s.accept(set)
	return found.dirs
}

// look reads the folder and names the state it is in: its revision, or why it
// cannot be read.
func look(dir string) (folder, string, error) {
	found, err := read(dir)
	if err != nil {
		return found, "unreadable: " + err.Error(), err
	}
	return found, revision(found.sources), nil
}

func (s *Store) isNew(state string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen != state
}

func (s *Store) accept(set *Set) {
	s.mu.Lock()
	s.seen, s.refused = set.Revision(), nil
	s.mu.Unlock()
	s.current.Store(set)
	s.metrics.loaded(set.Revision())
	s.logger.Info("policies loaded", "revision", set.Revision(), "policies", set.Names())
}

// refuse keeps the last good policies, and logs one line per fault. It is
// called once for each state of the folder.
func (s *Store) refuse(state string, err error) {
	s.mu.Lock()
	s.seen, s.refused = state, err
	s.mu.Unlock()
	s.metrics.refused()
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		faults = Faults{{File: s.dir, Reason: err.Error()}}
	}
	for _, f := range faults {
		s.logger.Error("policy refused: the last good policies stay", "file", f.File, "line", f.Line, "reason", f.Reason, "revision", s.Current().Revision())
	}
}
