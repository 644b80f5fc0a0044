package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var errOngoing = errors.New("still waiting")

// scratch is the folder of this test process; its path is short, for it holds
// the folders of Unix sockets, whose paths have 107 bytes at most.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "gh") })

// Main runs the tests of a package and removes what they shared. In a process
// that is a Member, it is that.
func Main(m *testing.M) int {
	beMember()
	code := m.Run()
	if dir, err := scratch(); err == nil {
		if left := owned(dir); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "processes are left behind: %v\n", left)
			code = 1
		}
		os.RemoveAll(dir)
	}
	return code
}

// Root is the folder of the module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// build makes the gatehouse binary, once. It has no race detector, as its
// timing counts; GATEHOUSE_RACE=1 asks for one. GATEHOUSE_BINARY names one that
// is there already.
var build = sync.OnceValues(func() (string, error) {
	if there := os.Getenv("GATEHOUSE_BINARY"); there != "" {
		return there, nil
	}
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "gatehouse")
	args := []string{"build", "-o", binary}
	if os.Getenv("GATEHOUSE_RACE") == "1" {
		args = append(args, "-race")
	}
	command := exec.Command("go", append(args, "./cmd/gatehouse")...)
	command.Dir = Root()
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building gatehouse: %w\n%s", err, out)
	}
	return binary, nil
})

// Binary is the path of a gatehouse built from this tree.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// find gets Envoy as `make run` does.
var find = sync.OnceValues(func() (string, error) {
	out, err := exec.Command(filepath.Join(Root(), "scripts", "envoy")).Output()
	if err != nil {
		return "", fmt.Errorf("getting Envoy: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// EnvoyPath is the path of a supported Envoy.
func EnvoyPath(t testing.TB) string {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
