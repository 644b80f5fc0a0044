package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
)

// The authorizer and the edge get their certificates with join tokens, as they
// do on machines of their own, and start again without.
func TestPartsEnrol(t *testing.T) {
	configure := overTLS(t)
	s := harness.Prepare(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		configure(s, c)
		enrol := harness.FreeAddress(t)
		c.Set("controlplane.enrolment_listen", enrol)
		c.Set("controlplane.identity", nil)
		c.Set("envoy.telemetry", harness.FreeAddress(t))
		for _, part := range []string{harness.Authz, harness.Envoy} {
			c.Set(part+".identity", map[string]any{"enrol": enrol, "join_token": filepath.Join(s.Dir, part+".token")})
		}
	}})
	s.StartPart(t, harness.Issuer)
	s.StartPart(t, harness.ControlPlane)
	for part, id := range map[string]string{harness.Authz: envoy.AuthzIdentity(trustDomain), harness.Envoy: envoy.EdgeIdentity(trustDomain)} {
		copyFile(t, joinToken(t, s, id), filepath.Join(s.Dir, part+".token"))
	}
	s.StartPart(t, harness.Authz)
	s.StartPart(t, harness.Envoy)
	_, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	harness.Eventually(t, 20*time.Second, func() error {
		status, body, err := harness.Get("http://" + s.Config().Text("envoy.telemetry") + "/readyz")
		if err == nil && status != 200 {
			err = fmt.Errorf("the edge's agent is not ready: %s", body)
		}
		return err
	})
	for _, part := range []string{harness.Authz, harness.Envoy} {
		if !harness.Exists(filepath.Join(s.Dir, "data", "identity", part, "identity.pem")) {
			t.Errorf("%s has kept no certificate", part)
		}
		s.Process(part).Stop(t)
	}
	s.StartPart(t, harness.Authz)
	s.StartPart(t, harness.Envoy)
	s.Expect(t, 200, "GET", "/orders", access)
	if log := s.Process(harness.Authz).Log(); strings.Contains(log, "join token") {
		t.Errorf("a second start wants a token:\n%s", log)
	}
}
