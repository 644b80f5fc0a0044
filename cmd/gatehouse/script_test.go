package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatehouse": main})
}

// TestScripts runs testdata/script, each script in a folder of its own. Beside
// the usual commands there are:
//
//	exitcode N program args…   the program must end with this exit code
//	freeports VAR…             sets each variable to the address of a free port
//	ready URL                  waits until the URL answers 200
//	mode OCTAL file…           each file must have this mode
//	field N VAR                sets the variable to a word of the last output
//	appendto FILE text…         adds a line below the last key of a file
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Else every program built with the race detector ends a second late.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitcode, "freeports": freeports, "ready": ready, "mode": mode, "field": field, "appendto": appendto,
		},
	})
}

func exitcode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func freeports(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, listener.Addr().String())
		// Kept until all are found, so that they differ.
		defer listener.Close()
	}
}

func ready(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	var last string
	for time.Now().Before(deadline) {
		response, err := http.Get(args[0])
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
			last = response.Status
		} else {
			last = err.Error()
		}
		<-time.After(20 * time.Millisecond)
	}
	ts.Fatalf("%s is not ready: %s", args[0], last)
}

// mode waits for files to be there, as a socket is a moment after its server says
// that it is ready, and wants them to have a mode.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		for errors.Is(err, fs.ErrNotExist) && time.Now().Before(deadline) {
			<-time.After(20 * time.Millisecond)
			info, err = os.Stat(ts.MkAbs(name))
		}
		ts.Check(err)
		if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

func field(ts *testscript.TestScript, _ bool, args []string) {
	at, err := strconv.Atoi(args[0])
	ts.Check(err)
	words := strings.Fields(ts.ReadFile("stdout"))
	if at >= len(words) {
		ts.Fatalf("the output has %d words", len(words))
	}
	ts.Setenv(args[1], words[at])
}

func appendto(ts *testscript.TestScript, _ bool, args []string) {
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = fmt.Fprintln(file, "  "+strings.Join(args[1:], " "))
	ts.Check(errors.Join(err, file.Close()))
}
