package harness

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"gatehouse.dev/gatehouse/envoy"
)

// Sidecar is `gatehouse sidecar` beside a service.
type Sidecar struct {
	// Name is the process's; State is its folder.
	Name, Service, State string
	Telemetry            string
	Process              *Process

	system *System
}

// NewSidecar prepares one; several of a service have names of their own.
func (s *System) NewSidecar(t testing.TB, service, name string) *Sidecar {
	t.Helper()
	return &Sidecar{Name: name, Service: service, State: filepath.Join(s.Dir, "data", name), Telemetry: FreeAddress(t), system: s}
}

// Keys is where all sidecars of the service serve assertion keys, one after the
// other.
func (c *Sidecar) Keys() string { return "unix:" + c.system.Socket("keys-"+c.Service) }

// JoinToken makes a join token, in a file.
func (s *System) JoinToken(t testing.TB, id string, more ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "join")
	s.CLI(t, append([]string{"workload", "token", "--id", id, "--out", file}, more...)...)
	return file
}

// Launch starts the process and does not wait.
func (c *Sidecar) Launch(t testing.TB, more ...string) {
	t.Helper()
	config := c.system.written()
	c.Process = c.system.Launch(t, c.Name, exec.Command(Binary(t), append([]string{
		"sidecar", "--service", c.Service, "--node", c.Name, "--enrol", config.Text("controlplane.enrolment_listen"), "--xds", config.Text("controlplane.listen"),
		"--state", c.State, "--telemetry", c.Telemetry, "--assertion-keys", c.Keys(), "--concurrency", "1", "--envoy", EnvoyPath(t),
	}, more...)...))
}

// Enrol starts it for the first time and waits until it serves.
func (c *Sidecar) Enrol(t testing.TB) {
	t.Helper()
	c.Launch(t, "--join-token", c.system.JoinToken(t, envoy.ServiceIdentity("gatehouse.local", c.Service)))
	c.AwaitReady(t)
}

// Restart stops it, as an operator would, and starts it again.
func (c *Sidecar) Restart(t testing.TB) {
	t.Helper()
	c.Process.Stop(t)
	c.Launch(t)
	c.AwaitReady(t)
}

// AwaitReady waits until it serves.
func (c *Sidecar) AwaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, startTime, func() error {
		if c.Process.Ended() {
			t.Fatalf("%s ended:\n%s", c.Name, tail(c.Process.Log()))
		}
		return c.Ready()
	})
}

// Ready is nil where it says that it serves.
func (c *Sidecar) Ready() error {
	status, body, err := tryGet("http://" + c.Telemetry + "/readyz")
	if err == nil && status != 200 {
		err = errors.New(body)
	}
	return err
}
