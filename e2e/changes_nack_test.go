package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// Envoy itself refuses an edit: a listener on a port that somebody else has.
// Its message and the changed keys are shown, the last good configuration is
// back for everybody, and the next good edit goes through.
func TestChangesNack(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	s.AwaitApplied(t)
	good := s.Config()
	before := s.Edge(t).Version
	running := s.Load(t, access, "/orders", "/open").Start(t)
	running.AwaitMore(t, 100)
	mark := s.Process(harness.ControlPlane).Logged()

	taken := harness.TakenAddress(t)
	s.Edit(t, func(c harness.Config) {
		c.Set("gateway.redirect_listen", taken)
		c.AddRoute(harness.Route{"id": "new", "path": "/new", "service": "orders", "public": true})
	})
	harness.Eventually(t, 10*time.Second, func() error {
		edge := s.Edge(t)
		if edge.Refused == nil {
			return fmt.Errorf("no refusal is shown: %+v", edge)
		}
		if !strings.Contains(edge.Refused.Message, taken) {
			return fmt.Errorf("Envoy's message does not name %s: %s", taken, edge.Refused.Message)
		}
		changed := strings.Join(edge.Refused.Changed, " ")
		if !strings.Contains(changed, "gateway.redirect_listen") || !strings.Contains(changed, "gateway.routes[new]") || len(edge.Refused.Changed) != 2 {
			return fmt.Errorf("the changed keys are %v", edge.Refused.Changed)
		}
		if edge.Version != before || !edge.Taken {
			return fmt.Errorf("the last good configuration is not back: %+v", edge)
		}
		return nil
	})
	log := s.Process(harness.ControlPlane).LogSince(mark)
	if !strings.Contains(log, taken) || !strings.Contains(log, "gateway.redirect_listen") {
		t.Errorf("the log does not show the refusal:\n%s", log)
	}
	s.Expect(t, 404, "GET", "/new", "") // the whole edit is undone, not half of it
	s.Expect(t, 200, "GET", "/orders", access)
	if status, _, err := harness.Redirect(s.HTTP(), "http://"+good.Text("gateway.redirect_listen")+"/x"); err != nil || status != 308 {
		t.Errorf("the old listener for plain HTTP: %d, %v", status, err)
	}

	s.Apply(t, func(c harness.Config) { c.Set("gateway.redirect_listen", good.Text("gateway.redirect_listen")) })
	s.Expect(t, 200, "GET", "/new", "")
	if edge := s.Edge(t); edge.Refused != nil {
		t.Errorf("after a good edit the refusal is still shown: %+v", edge.Refused)
	}
	harness.ExpectNoneLost(t, running.Stop(), 200)
}
