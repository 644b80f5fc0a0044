package controlplane

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Status is what /status answers: what the Envoys shall have and what they
// have.
type Status struct {
	// Groups are the node groups, by name.
	Groups map[string]GroupStatus `json:"groups"`
	// RefusedEdit is the last edit, where it was not valid.
	RefusedEdit *Edit `json:"refused_edit,omitempty"`
}

// GroupStatus is one node group.
type GroupStatus struct {
	// Identity is the SPIFFE id that its Envoys have proved, whatever the ids are
	// that they give themselves.
	Identity string `json:"identity"`
	// Version is what its Envoys shall have.
	Version string `json:"version"`
	// Taken tells whether every connected Envoy has it and nothing else, and no
	// other version is to follow.
	Taken bool `json:"taken"`
	// Refused is the edit that an Envoy refused, after which the last good
	// version came back.
	Refused *Nack `json:"refused,omitempty"`
	// Nodes are the connected Envoys.
	Nodes []NodeStatus `json:"nodes"`
}

// NodeStatus is one connected Envoy.
type NodeStatus struct {
	ID        string    `json:"id"`
	Connected time.Time `json:"connected"`
	// Version is the last that it has wholly taken, and when; empty: none yet.
	Version string     `json:"version,omitempty"`
	Taken   *time.Time `json:"taken,omitempty"`
	// Nack is the last that it refused since it connected.
	Nack *Nack `json:"nack,omitempty"`
}

// Nack is a refusal by an Envoy.
type Nack struct {
	Node string `json:"node"`
	// Type is the type URL of the refused resources.
	Type string `json:"type"`
	// Message is Envoy's own.
	Message string `json:"message"`
	// Changed are the configuration keys that changed since the last version
	// that was taken; empty where none was.
	Changed []string  `json:"changed"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
}

// Edit is an edit of the configuration that changed nothing, as it is not
// valid.
type Edit struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Refused records an edit that was refused before it got here; nil: the last
// edit was good.
func (s *Server) Refused(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.edit = nil
		return
	}
	s.edit = &Edit{Reason: err.Error(), At: s.now()}
	s.metrics.refused.Inc()
}

// Status is what the Envoys shall have and what they have.
func (s *Server) Status() Status {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{Groups: map[string]GroupStatus{}}
	for name, g := range s.groups {
		group := g.status()
		group.Taken = group.Taken && s.plan.settled(name, group.Version)
		status.Groups[name] = group
	}
	status.RefusedEdit = s.edit
	return status
}

func (g *group) status() GroupStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	status := GroupStatus{Identity: g.identity, Version: g.target.snapshot.Version, Taken: g.target.done, Nodes: []NodeStatus{}}
	if g.refused != nil {
		status.Refused = &g.refused.nack
	}
	for m := range g.streams {
		status.Nodes = append(status.Nodes, m.status())
	}
	slices.SortFunc(status.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.ID, b.ID) })
	return status
}

func (m *member) status() NodeStatus {
	status := NodeStatus{ID: m.node, Connected: m.connected, Nack: m.nack}
	if m.settled != nil {
		at := m.settledAt
		status.Version, status.Taken = m.settled.Version, &at
	}
	return status
}

func (s *Server) telemetry() http.Handler {
	mux := serve.Telemetry(s.gatherer, s.Missing)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(s.Status()) // the reader may be gone: nobody is left to tell
	})
	if s.ca != nil {
		mux.Handle("GET /bundle", s.ca.Bundle())
	}
	return mux
}
