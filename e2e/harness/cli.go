package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Output is what a finished command left.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// TryCLI runs gatehouse with the system's configuration.
func (s *System) TryCLI(t testing.TB, input string, args ...string) Output {
	t.Helper()
	if args[0] != "init" {
		args = append(args, "--config", s.ConfigPath(""))
	}
	command := exec.Command(Binary(t), args...)
	command.Dir = s.Dir
	command.Env = append(command.Environ(), marker+"="+s.Dir)
	command.Stdin = strings.NewReader(input)
	return Run(t, command)
}

// Run runs a command to its end.
func Run(t testing.TB, command *exec.Cmd) Output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); command.ProcessState == nil {
		t.Fatalf("running %s: %v", command, err)
	}
	return Output{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// CLI runs gatehouse, which must succeed, and returns what it printed.
func (s *System) CLI(t testing.TB, args ...string) string {
	t.Helper()
	return s.CLIWithInput(t, "", args...)
}

// CLIWithInput runs gatehouse with text on its standard input.
func (s *System) CLIWithInput(t testing.TB, input string, args ...string) string {
	t.Helper()
	out := s.TryCLI(t, input, args...)
	if out.Code != 0 {
		t.Fatalf("gatehouse %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// AddClient registers a confidential client for client_credentials and returns
// its secret.
func (s *System) AddClient(t testing.TB, id string, scopes ...string) (secret string) {
	t.Helper()
	return s.addClient(t, id, scopes)
}

func (s *System) addClient(t testing.TB, id string, scopes []string, more ...string) (secret string) {
	t.Helper()
	file := filepath.Join(s.Dir, "data", id+".secret")
	args := []string{"client", "add", "--id", id, "--secret-file", file}
	for _, scope := range scopes {
		args = append(args, "--scope", scope)
	}
	s.CLI(t, append(args, more...)...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
