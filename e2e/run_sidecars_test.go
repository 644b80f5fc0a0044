package e2e

import (
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// `gatehouse run` starts the sidecars of its machine, too: a request goes
// through both Envoys, each with an identity of the CA in the process, and all
// of them end with it.
func TestRunStartsSidecars(t *testing.T) {
	s := harness.Prepare(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("authz.listen", harness.FreeAddress(t))
		c.Set("controlplane.listen", harness.FreeAddress(t))
		c.Set("controlplane.authz", []string{c.Text("authz.listen")})
		c.Set("gateway.services.orders.sidecar", map[string]any{"address": harness.FreeAddress(t)})
	}})
	run := s.Launch(t, "run", exec.Command(harness.Binary(t), "run", "--config", s.ConfigPath("")))
	harness.Eventually(t, 30*time.Second, func() error {
		if run.Ended() {
			t.Fatalf("it ended:\n%s", run.Log())
		}
		if !strings.Contains(run.Log(), `"msg":"ready"`) {
			return errors.New("not ready: " + run.Log())
		}
		return nil
	})
	_, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	if seen := s.Orders.Last(); !seen.Has("x-gatehouse-") {
		t.Errorf("the service was not told who calls: %v", seen)
	}
	s.Expect(t, 403, "POST", "/orders", access)
	s.Expect(t, 401, "GET", "/orders", "")

	pids := regexp.MustCompile(`"msg":"envoy started".*"pid":(\d+)`).FindAllStringSubmatch(run.Log(), -1)
	if len(pids) != 2 {
		t.Errorf("%d Envoys were started, want the edge and one sidecar", len(pids))
	}
	run.Stop(t)
	for _, m := range pids {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Envoy %d is still there: %v", pid, err)
		}
	}
}
