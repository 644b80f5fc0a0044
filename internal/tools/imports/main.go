// Command imports checks that the packages of this module import one another
// in one direction only:
//
//	cmd → internal/app → {authz, ratelimit, controlplane, issuer} → {token, envoy, proto, policies}
//
// It reads `go list -json` of the module in the current folder, prints one line
// per violation, and ends with 1 where there is any.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
)

func main() {
	violations, err := run(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "checking imports:", err)
		os.Exit(2)
	}
	for _, v := range violations {
		fmt.Println(v)
	}
	if len(violations) > 0 {
		os.Exit(1)
	}
}

// listed is what we need of one package in `go list -json`.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       struct{ Path string }
}

// run lists the packages of the module in dir and checks each.
func run(dir string) ([]string, error) {
	packages, err := list(dir)
	if err != nil {
		return nil, err
	}
	var violations []string
	for _, p := range packages {
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		violations = append(violations, check(p.Module.Path, p.ImportPath, imports)...)
	}
	return violations, nil
}

func list(dir string) ([]listed, error) {
	// -e: what does not compile is for the compiler to say.
	command := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Module", "./...")
	command.Dir = dir
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("running go list: %w", err)
	}
	packages, err := decode(out)
	if err := errors.Join(err, command.Wait()); err != nil {
		return nil, err
	}
	if len(packages) == 0 || packages[0].Module.Path == "" {
		return nil, errors.New("go list found no module: run this in the module's folder")
	}
	return packages, nil
}

func decode(from io.Reader) ([]listed, error) {
	var packages []listed
	for decoder := json.NewDecoder(from); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("reading the output of go list: %w", err)
		}
		packages = append(packages, p)
	}
}
