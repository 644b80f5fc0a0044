package controlplane

import (
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// group is a set of Envoys that share one snapshot: which one they shall have,
// the last one that all of them took, and who they are.
type group struct {
	name     string
	identity string // the SPIFFE id that its Envoys have
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time

	mu      sync.Mutex
	target  *release
	good    *release // the last that every connected Envoy has taken
	refused *refused // why target is not what was last published; nil: it is
	nacked  string   // the version that an Envoy last refused as the goal
	streams map[*member]bool
	closed  error // why nobody may join; nil: they may
	// moved is poked when one of its Envoys has come further.
	moved chan<- struct{}
}

// maxStreams bounds the streams of one identity.
const maxStreams = 2000

// release is a snapshot on its way.
type release struct {
	snapshot *Snapshot
	changed  []string // configuration keys, against the last good one
	since    time.Time
	done     bool // every connected Envoy has it
	// keep holds back what it no longer has: other groups still rely on it.
	keep bool
}

// refused is an edit that an Envoy did not take.
type refused struct {
	release *release
	nack    Nack
}

// member is one stream of an Envoy, as the group knows it.
type member struct {
	node      string
	connected time.Time
	wake      chan struct{} // there may be more to send
	ended     chan error    // its stream must end, and why
	made      bool          // it has all of the group's goal
	current   bool          // and nothing else
	settled   *Snapshot     // the last that it had wholly
	settledAt time.Time
	nack      *Nack
}

// newGroup is a group of a server.
func newGroup(name, identity string, s *Server) *group {
	return &group{
		name: name, identity: identity, logger: s.logger, metrics: s.metrics, now: s.now,
		streams: map[*member]bool{}, moved: s.moved,
	}
}

// isRefused tells whether an Envoy refused the last publication.
func (g *group) isRefused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused != nil
}

// publish makes a snapshot the goal of all Envoys; keep: until release, what it
// no longer has stays. One that is the goal already changes nothing; one that
// was refused is tried again.
func (g *group) publish(s *Snapshot, keep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nacked = ""
	if g.target.snapshot.Version == s.Version {
		g.refused = nil
		return
	}
	r := &release{snapshot: s, since: g.now(), keep: keep}
	if g.good != nil {
		r.changed = changedKeys(g.good.snapshot, s)
	}
	g.refused = nil
	g.logger.Info("configuration published", "group", g.name, "version", s.Version, "changed", r.changed, "nodes", len(g.streams))
	g.aim(r)
}

// release lets go what the goal no longer has.
func (g *group) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target.keep = false
	g.wake()
}

// aim makes a release the goal and has every stream look at it.
func (g *group) aim(r *release) {
	g.target = r
	for m := range g.streams {
		m.made, m.current = false, false
	}
	g.wake()
}

func (g *group) wake() {
	for m := range g.streams {
		poke(m.wake)
	}
}

// poke wakes whoever listens, unless it is awake already.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// join admits one more stream.
func (g *group) join(node string) (*member, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		return nil, g.closed
	}
	if len(g.streams) >= maxStreams {
		return nil, status.Error(codes.ResourceExhausted, "this identity has too many streams")
	}
	m := &member{node: node, connected: g.now(), wake: make(chan struct{}, 1), ended: make(chan error, 1)}
	g.streams[m] = true
	g.metrics.nodes.Inc()
	return m, nil
}

// close ends every stream, and admits none until open.
func (g *group) close(reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = reason
	for m := range g.streams {
		select {
		case m.ended <- reason:
		default: // it is ending
		}
	}
}

func (g *group) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = nil
}

func (g *group) leave(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.streams, m)
	g.metrics.nodes.Dec()
	g.promote()
	poke(g.moved)
}

// goal is the snapshot that Envoys shall have; keep: beside what they have.
func (g *group) goal() (s *Snapshot, keep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.target.snapshot, g.target.keep
}

// progress is how far a group has come with a snapshot.
func (g *group) progress(s *Snapshot) (all, some, refused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nacked == s.Version || g.target.snapshot.Version != s.Version {
		return false, false, g.nacked == s.Version
	}
	all = true
	for m := range g.streams {
		all, some = all && m.made, some || m.made
	}
	return all, some, false
}

// made notes that an Envoy has all of a snapshot.
func (g *group) made(m *member, s *Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !m.made && s == g.target.snapshot {
		m.made = true
		poke(g.moved)
	}
}

// took notes that an Envoy has all of a snapshot and nothing else.
func (g *group) took(m *member, s *Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.current || s != g.target.snapshot {
		return
	}
	m.current, m.settled, m.settledAt = true, s, g.now()
	g.logger.Info("configuration taken", "group", g.name, "node", m.node, "version", s.Version)
	g.promote()
}

// promote makes the target the last good one when every Envoy has it.
func (g *group) promote() {
	if g.target == nil || g.target.done || len(g.streams) == 0 {
		return
	}
	for m := range g.streams {
		if !m.current {
			return
		}
	}
	g.target.done = true
	g.good = g.target
	g.metrics.publish.Observe(g.now().Sub(g.target.since).Seconds())
}

// refuse takes in an Envoy's NACK. Where it is about the goal, and there is a
// last good snapshot, that one becomes the goal again for all of the group: one
// configuration for all is worth more than a new one for some.
func (g *group) refuse(m *member, r *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	nack := Nack{Node: m.node, Type: r.typeURL, Message: r.message, Version: r.snapshot.Version, At: g.now()}
	g.metrics.nacks.WithLabelValues(kindOf(r.typeURL)).Inc()
	if r.snapshot == g.target.snapshot {
		nack.Changed = g.target.changed
		g.nacked = nack.Version
	}
	m.nack = &nack
	defer poke(g.moved)
	revert := r.snapshot == g.target.snapshot && g.good != nil && g.good != g.target
	g.logger.Error("Envoy refused the configuration", "node", m.node, "resource", kindOf(r.typeURL), "message", r.message,
		"group", g.name, "changed", nack.Changed, "version", nack.Version, "reverted", revert)
	if !revert {
		return
	}
	g.refused = &refused{release: g.target, nack: nack}
	g.aim(&release{snapshot: g.good.snapshot, since: g.now()})
}
