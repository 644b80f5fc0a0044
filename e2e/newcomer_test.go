package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// TestNewcomer does what the README says, word by word: it runs the README's
// own blocks, on the ports that they name.
func TestNewcomer(t *testing.T) {
	blocks := readme(t)
	for _, mark := range []string{"sh service", "sh setup", "yaml api", "yaml role", "yaml service", "yaml route", "sh validate", "sh run", "sh accounts", "sh try", "yaml sidecar"} {
		if blocks[mark] == "" {
			t.Fatalf("README.md has no block %q", mark)
		}
	}
	awaitFreePorts(t)
	f := checkout(t)
	environment := "ENVOY=" + harness.EnvoyPath(t)
	do := func(mark, input string) string {
		t.Helper()
		out := f.Bash(t, blocks[mark], input, environment)
		if out.Code != 0 {
			t.Fatalf("the block %q ended with %d:\n%s%s", mark, out.Code, out.Stdout, out.Stderr)
		}
		return out.Stdout + out.Stderr
	}
	longRunning := func(mark, name string) *harness.Process {
		command := exec.Command("bash", "-eu", "-c", execLast(blocks[mark]))
		command.Env = append(command.Environ(), environment)
		return f.Launch(t, name, command)
	}

	t.Cleanup(longRunning("sh service", "service").Kill)
	do("sh setup", "")
	file := filepath.Join(f.Dir, "mygate", "gatehouse.yaml")
	for mark, key := range map[string]string{"yaml api": "apis", "yaml role": "roles", "yaml service": "services", "yaml route": "routes"} {
		insertBelow(t, file, key, blocks[mark])
	}
	do("sh validate", "")
	first := newcomerRuns(t, longRunning("sh run", "run"))
	do("sh accounts", "correct horse battery staple\n")
	newcomerTries(t, do("sh try", ""))
	newcomerStops(t, first)

	// The same with a sidecar, which is one more Envoy.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), blocks["yaml service"], blocks["yaml sidecar"], 1))
	do("sh validate", "")
	second := newcomerRuns(t, longRunning("sh run", "run-again"))
	if n := strings.Count(second.Log(), `"msg":"envoy started"`); n != 2 {
		t.Errorf("%d Envoys were started, want the edge and the sidecar", n)
	}
	newcomerTries(t, do("sh try", ""))
	newcomerStops(t, second)
}

// newcomerRuns waits until the gate is ready.
func newcomerRuns(t *testing.T, running *harness.Process) *harness.Process {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if running.Ended() {
			t.Fatalf("it did not start:\n%s", running.Log())
		}
		if out := running.Out(); !strings.Contains(out, "https://localhost:8443") {
			return fmt.Errorf("not ready: %q\n%s", out, running.Log())
		}
		return nil
	})
	return running
}

func newcomerTries(t *testing.T, said string) {
	t.Helper()
	if !strings.Contains(said, "Hello from behind the gate") {
		t.Errorf("with a token, the service did not answer:\n%s", said)
	}
	if !strings.Contains(said, `"status":401`) {
		t.Errorf("without a token, the gate opened:\n%s", said)
	}
}

func newcomerStops(t *testing.T, running *harness.Process) {
	t.Helper()
	running.Interrupt()
	if !running.Wait(15*time.Second) || running.Command.ProcessState.ExitCode() != 0 {
		t.Errorf("Ctrl-C: %v\n%s", running.Command.ProcessState, running.Log())
	}
}

// execLast makes the last command of a script take the shell's place, so that a
// signal reaches it.
func execLast(script string) string {
	lines := strings.Split(strings.TrimSpace(script), "\n")
	lines[len(lines)-1] = "exec " + lines[len(lines)-1]
	return strings.Join(lines, "\n")
}

// awaitFreePorts waits for the ports of the README and of the sample, which
// another gatehouse of this machine may have.
func awaitFreePorts(t *testing.T) {
	t.Helper()
	harness.Eventually(t, time.Minute, func() error {
		for _, port := range []int{8080, 8443, 9101, 9102, 9103, 9201, 9202, 9300, 9301, 9400, 9401, 9403, 9491, 9492, 9493, 9901} {
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return fmt.Errorf("a port that the README names is taken: %w", err)
			}
			listener.Close()
		}
		return nil
	})
}
