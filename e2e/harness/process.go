package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// marker is the environment variable by which processes of a test, and what
// they start in turn, are known.
const marker = "GATEHOUSE_E2E"

// Process is one process of the system.
type Process struct {
	Name    string
	Command *exec.Cmd
	// log takes the standard error, out the standard output.
	log, out string
	done     chan struct{}
}

// starter runs calls on one thread that never ends: a process started with
// Pdeathsig dies with the thread that started it, not with this process alone.
var starter = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// launch starts a command below dir, with its errors in logs/NAME.log and its
// output in logs/NAME.out.
func launch(dir, name string, command *exec.Cmd) (*Process, error) {
	base := filepath.Join(dir, "logs", name)
	p := &Process{Name: name, Command: command, log: base + ".log", out: base + ".out", done: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, err
	}
	for path, into := range map[string]*io.Writer{p.log: &command.Stderr, p.out: &command.Stdout} {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		*into = file
	}
	if command.Dir == "" {
		command.Dir = dir
	}
	command.Env = append(command.Environ(), marker+"="+dir)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	starter() <- func() { started <- command.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		command.Wait()
		close(p.done)
	}()
	return p, nil
}

// Log is what the process wrote to its standard error so far, and what its
// predecessors of the same name did.
func (p *Process) Log() string { return content(p.log) }

// Out is what it wrote to its standard output.
func (p *Process) Out() string { return content(p.out) }

func content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Logged counts what the log holds now, for LogSince.
func (p *Process) Logged() int { return len(p.Log()) }

// LogSince is what the process wrote since Logged said so.
func (p *Process) LogSince(mark int) string { return p.Log()[mark:] }

// Ended tells whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to this process alone.
func (p *Process) Signal(s syscall.Signal) { p.Command.Process.Signal(s) }

// Interrupt is Ctrl-C: SIGINT to the process and to all of its group.
func (p *Process) Interrupt() { syscall.Kill(-p.Command.Process.Pid, syscall.SIGINT) }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.Command.Process.Kill()
	<-p.done
}

// Stop asks the process to end, as an operator would, and fails the test where
// it does not drain and end well.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	if p.Ended() {
		return
	}
	p.Signal(syscall.SIGTERM)
	if !p.Wait(15 * time.Second) {
		p.Signal(syscall.SIGQUIT) // the stacks say what it waits for
		p.Wait(2 * time.Second)
		p.Kill()
		t.Errorf("%s did not end within 15 s of SIGTERM:\n%s", p.Name, tail(p.Log()))
		return
	}
	if code := p.Command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s ended with %s after SIGTERM:\n%s", p.Name, p.Command.ProcessState, tail(p.Log()))
	}
}

// Wait waits for the process's end.
func (p *Process) Wait(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// owned are the processes whose environment names a folder at or below dir.
func owned(dir string) (found []string) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile, or another user's
		}
		for _, variable := range bytes.Split(environ, []byte{0}) {
			name, value, _ := strings.Cut(string(variable), "=")
			if name == marker && (value == dir || strings.HasPrefix(value, dir+"/")) {
				line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
				found = append(found, fmt.Sprintf("%s %s", filepath.Base(filepath.Dir(path)), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			}
		}
	}
	return found
}
