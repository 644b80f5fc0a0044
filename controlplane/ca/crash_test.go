package ca

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCrashHelper is the process of the test below that is killed: it answers
// that everything is written down, and holds the database open.
func TestCrashHelper(t *testing.T) {
	dir := os.Getenv("CRASH_DIR")
	if dir == "" {
		return
	}
	s := must(New(crashConfig(dir), Deps{}))
	id, revoked := must(ParseID(orders)), must(ParseID(other))
	secret, _, err := s.store.newToken(id, maxTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	row := issuedRow{ID: orders, Serial: "1", Issued: time.Now(), NotAfter: time.Now().Add(time.Hour), sum: []byte("sum")}
	if err := s.store.enrol(secret, row); err != nil {
		t.Fatal(err)
	}
	if err := s.store.revoke(revoked); err != nil {
		t.Fatal(err)
	}
	fmt.Println("secret", secret)
	bufio.NewReader(os.Stdin).ReadString('\n') // until killed
}

func crashConfig(dir string) Config {
	c := Config{TrustDomain: domain}
	c.SetDefaults(dir)
	return c
}

// What was answered survives kill -9: a token stays used, a workload revoked, a
// certificate on record.
func TestNothingAnsweredIsLostByAKill(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command(os.Args[0], "-test.run=^TestCrashHelper$")
	c.Env = append(os.Environ(), "CRASH_DIR="+dir)
	in, out := must(c.StdinPipe()), must(c.StdoutPipe())
	defer in.Close()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	secret, ok := strings.CutPrefix(strings.TrimSpace(line), "secret ")
	c.Process.Kill()
	c.Wait()
	if !ok {
		t.Fatalf("the process said %q", line)
	}
	s, err := New(crashConfig(dir), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.store.token(secret); err == nil || !strings.Contains(err.Error(), "was used before") {
		t.Errorf("the token: %v", err)
	}
	if !slices.Equal(s.Denied(), []string{other}) {
		t.Errorf("denied are %v", s.Denied())
	}
	if uses, err := s.store.rootsInUse(); err != nil || len(uses) != 1 {
		t.Errorf("certificates on record: %v, %v", uses, err)
	}
}
