package harness

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// Status is the control plane's /status.
type Status struct {
	Groups map[string]Group `json:"groups"`
	// RefusedEdit is nil where the last edit was valid.
	RefusedEdit *struct {
		Reason string `json:"reason"`
	} `json:"refused_edit"`
}

// Group is one node group of a Status.
type Group struct {
	Version string `json:"version"`
	Taken   bool   `json:"taken"`
	// Refused is nil where Envoy took the last edit.
	Refused *struct {
		Message string   `json:"message"`
		Changed []string `json:"changed"`
	} `json:"refused"`
	Nodes []struct {
		ID      string `json:"id"`
		Version string `json:"version"`
	} `json:"nodes"`
}

// Status asks the control plane.
func (s *System) Status(t testing.TB) (status Status) {
	t.Helper()
	_, body := s.Telemetry(t, ControlPlane, "/status")
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatalf("/status says %q: %v", body, err)
	}
	return status
}

// Edge is the status of the edge's Envoys.
func (s *System) Edge(t testing.TB) Group {
	t.Helper()
	return s.Status(t).Groups["edge"]
}

// AwaitApplied waits until an Envoy is connected and every one has what it
// shall have.
func (s *System) AwaitApplied(t testing.TB) {
	t.Helper()
	Eventually(t, 10*time.Second, func() error {
		if edge := s.Edge(t); !edge.Taken || len(edge.Nodes) == 0 {
			return fmt.Errorf("the Envoys have not taken the configuration: %+v", edge)
		}
		return nil
	})
}

// Apply edits the configuration and waits until every Envoy has the edit.
func (s *System) Apply(t testing.TB, change func(Config)) {
	t.Helper()
	before := s.Edge(t).Version
	s.Edit(t, change)
	Eventually(t, 10*time.Second, func() error {
		if edge := s.Edge(t); edge.Version == before || !edge.Taken || len(edge.Nodes) == 0 {
			return fmt.Errorf("the edit is not applied: %+v", edge)
		}
		return nil
	})
}
