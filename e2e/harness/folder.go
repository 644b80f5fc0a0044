package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Folder is a test's folder, with the processes that were started in it. At the
// end of the test they are stopped; none may be left behind.
type Folder struct {
	Dir string

	t         testing.TB
	processes map[string]*Process
	order     []string
}

// NewFolder makes a folder that goes with the test.
func NewFolder(t testing.TB) *Folder {
	t.Helper()
	base, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	f := &Folder{Dir: dir, t: t, processes: map[string]*Process{}}
	t.Cleanup(f.close)
	return f
}

// Process is a process by its name, nil where it was never started.
func (f *Folder) Process(name string) *Process { return f.processes[name] }

// Launch starts a process that ends with the test at the latest.
func (f *Folder) Launch(t testing.TB, name string, command *exec.Cmd) *Process {
	t.Helper()
	p, err := launch(f.Dir, name, command)
	if err != nil {
		t.Fatal(err)
	}
	if f.processes[name] == nil {
		f.order = append(f.order, name)
	}
	f.processes[name] = p
	return p
}

// Bash runs a script, as somebody would type it, to its end.
func (f *Folder) Bash(t testing.TB, script, input string, environment ...string) Output {
	t.Helper()
	command := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	command.Dir = f.Dir
	command.Env = append(append(command.Environ(), marker+"="+f.Dir), environment...)
	command.Stdin = strings.NewReader(input)
	return Run(t, command)
}

// AwaitNobody waits until no process of the folder runs any more.
func (f *Folder) AwaitNobody(t testing.TB, within time.Duration) {
	t.Helper()
	if err := Try(within, func() error {
		if left := owned(f.Dir); len(left) > 0 {
			return fmt.Errorf("processes are left behind: %s", strings.Join(left, "; "))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// close stops the processes, each as an operator would, the last started first.
func (f *Folder) close() {
	for i := len(f.order) - 1; i >= 0; i-- {
		f.processes[f.order[i]].Stop(f.t)
	}
	f.AwaitNobody(f.t, 5*time.Second)
	if f.t.Failed() {
		f.keep()
	}
	os.RemoveAll(f.Dir)
}

// keep copies logs, configurations and policies, and no key, to artifacts/.
func (f *Folder) keep() {
	into := filepath.Join(Root(), "artifacts", filepath.FromSlash(f.t.Name()))
	filepath.WalkDir(f.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == "data" {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 32<<20 {
			return nil
		}
		relative, _ := filepath.Rel(f.Dir, path)
		content, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		target := filepath.Join(into, relative)
		os.MkdirAll(filepath.Dir(target), 0o755)
		os.WriteFile(target, content, 0o644)
		return nil
	})
	f.t.Logf("logs are kept in %s", into)
}
