package e2e

import (
	"errors"
	"net"
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
	followSidecars(t, s, run, access)
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

// followSidecars adds a sidecar by an edit and takes it away by another: it is
// started, as soon as its address is free, and ended once nobody is led to it; requests go on.
func followSidecars(t *testing.T, s *harness.System, run *harness.Process, access string) {
	t.Helper()
	before := s.Config()
	taken, err := net.Listen("tcp", harness.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.Edit(t, func(c harness.Config) {
		c.Set("gateway.services.profile.sidecar", map[string]any{"address": taken.Addr().String()})
	})
	harness.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(run.Log(), "a sidecar that was added does not run") {
			return errors.New("nothing says that the address is taken")
		}
		return nil
	})
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	added := regexp.MustCompile(`"msg":"envoy started".*"node":"profile-1".*"pid":(\d+)|"msg":"envoy started".*"pid":(\d+).*"node":"profile-1"`)
	var pid string
	harness.Eventually(t, 40*time.Second, func() error {
		found := added.FindStringSubmatch(run.Log())
		if found == nil {
			return errors.New("no Envoy was started for profile")
		}
		pid = found[1] + found[2]
		if answer := s.Call(t, "GET", "/open", ""); answer.Status != 200 {
			return errors.New(answer.String())
		}
		// Each Envoy on the way adds its peer.
		if way := strings.Join(s.Profile.Last().Header["x-forwarded-for"], ","); strings.Count(way, ",") != 1 {
			return errors.New("requests do not go by the sidecar: " + way)
		}
		return nil
	})
	s.Write(t, before)
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 60*time.Second, func() error {
		if err := syscall.Kill(number, 0); !errors.Is(err, syscall.ESRCH) {
			return errors.New("the sidecar that was taken away still runs")
		}
		return nil
	})
	s.Expect(t, 200, "GET", "/open", "")
	s.Expect(t, 200, "GET", "/orders", access)
}
