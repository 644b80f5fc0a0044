package controlplane

import (
	"log/slog"
	"sync"
	"time"
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
	streams map[*member]bool
}

// release is a snapshot on its way.
type release struct {
	snapshot *Snapshot
	changed  []string // configuration keys, against the last good one
	since    time.Time
	done     bool // every connected Envoy has it
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
	current   bool          // it has the group's goal, wholly
	settled   *Snapshot     // the last that it had wholly
	settledAt time.Time
	nack      *Nack
}

func newGroup(name, identity string, logger *slog.Logger, m *metrics, now func() time.Time) *group {
	return &group{name: name, identity: identity, logger: logger, metrics: m, now: now, streams: map[*member]bool{}}
}

// publish makes a snapshot the goal of all Envoys. One that is the goal already
// changes nothing; one that was refused is tried again.
func (g *group) publish(s *Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.target != nil && g.target.snapshot.Version == s.Version {
		g.refused = nil
		return
	}
	r := &release{snapshot: s, since: g.now()}
	if g.good != nil {
		r.changed = changedKeys(g.good.snapshot, s)
	}
	g.refused = nil
	g.logger.Info("configuration published", "version", s.Version, "changed", r.changed, "nodes", len(g.streams))
	g.aim(r)
}

// aim makes a release the goal and has every stream look at it.
func (g *group) aim(r *release) {
	g.target = r
	for m := range g.streams {
		m.current = false
		select {
		case m.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

func (g *group) join(node string) *member {
	m := &member{node: node, connected: g.now(), wake: make(chan struct{}, 1)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams[m] = true
	g.metrics.nodes.Set(float64(len(g.streams)))
	return m
}

func (g *group) leave(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.streams, m)
	g.metrics.nodes.Set(float64(len(g.streams)))
	g.promote()
}

func (g *group) goal() *Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.target.snapshot
}

// took notes that an Envoy has all of a snapshot and nothing else.
func (g *group) took(m *member, s *Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.current || s != g.target.snapshot {
		return
	}
	m.current, m.settled, m.settledAt = true, s, g.now()
	g.logger.Info("configuration taken", "node", m.node, "version", s.Version)
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
	}
	m.nack = &nack
	revert := r.snapshot == g.target.snapshot && g.good != nil && g.good != g.target
	g.logger.Error("Envoy refused the configuration", "node", m.node, "resource", kindOf(r.typeURL), "message", r.message,
		"changed", nack.Changed, "version", nack.Version, "reverted", revert)
	if !revert {
		return
	}
	g.refused = &refused{release: g.target, nack: nack}
	g.aim(&release{snapshot: g.good.snapshot, since: g.now()})
}
