//go:build soak

package e2e

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// soaking is GATEHOUSE_SOAK, such as 10m; a minute where it does not say.
func soaking(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("GATEHOUSE_SOAK")
	if text == "" {
		return time.Minute
	}
	span, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("GATEHOUSE_SOAK: %v", err)
	}
	return span
}

// until lets rounds go on for that long.
func until(t *testing.T) rounds {
	t.Helper()
	end := time.Now().Add(soaking(t))
	return func(int) bool { return time.Now().Before(end) }
}

// A thousand edits of one route under load, and as many more as there is time
// for: no verdict belongs to neither the old nor the new configuration.
func TestSoakEdits(t *testing.T) {
	t.Parallel()
	again := until(t)
	s, robots := turningSystem(t)
	for round := 0; round < 10 || again(round); round++ {
		hundredEdits(t, s, robots)
		if t.Failed() {
			t.Fatalf("in the edits after %d", 100*round)
		}
	}
}

// The issuer is killed for as long as there is time, and keeps its word.
func TestSoakIssuer(t *testing.T) {
	t.Parallel()
	killIssuer(t, until(t))
}

// Parts are killed one after the other, at random. Good requests are answered
// well but for the moments after an authorizer's death, bad ones never.
func TestSoakFaults(t *testing.T) {
	t.Parallel()
	again := until(t)
	s := harness.Start(t, harness.Options{Authorizers: 2})
	robot, _ := s.Robot(t, "robot", "read:orders")
	everyone := newWitnesses(t, s)
	parts := []string{harness.Issuer, harness.ControlPlane, harness.Authz, harness.AuthzName(1)}
	for round := 0; again(round); round++ {
		good, revoked := s.Token(t, robot, "read:orders"), s.Token(t, robot, "read:orders")
		s.Revoke(t, robot, revoked)
		harness.Eventually(t, time.Second, everyone.say(401, revoked))
		wanted := s.Load(t, good, "/orders", "/orders/7")
		unwanted := s.Load(t, revoked, "/orders", "/orders/7")
		unwanted.Workers = 1
		asked, refused := wanted.Start(t), unwanted.Start(t)
		asked.AwaitMore(t, 50)

		part := parts[rand.IntN(len(parts))]
		s.Process(part).Kill()
		asked.AwaitMore(t, 50+rand.IntN(400))
		s.StartPart(t, part)
		harness.Eventually(t, 3*time.Second, s.Says(200, "GET", "/orders", good))
		asked.AwaitMore(t, 50)

		results := asked.Stop()
		if part == harness.Issuer || part == harness.ControlPlane {
			harness.ExpectNoneLost(t, results, 150)
		} else {
			harness.Complain(t, neither(results, 200, 503), len(results), "were answered neither well nor 503")
		}
		bad := refused.Stop()
		harness.Complain(t, neither(bad, 401, 503), len(bad), "with a revoked token were not refused")
		if t.Failed() {
			t.Fatalf("in round %d, after the death of %s", round, part)
		}
	}
}

// neither are the results with another status than these two.
func neither(results []harness.Result, a, b int) (other []harness.Result) {
	for _, r := range results {
		if r.Err != nil || r.Status != a && r.Status != b {
			other = append(other, r)
		}
	}
	return other
}
