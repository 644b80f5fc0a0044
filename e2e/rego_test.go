package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// orders.approve asks for the role approver, beside the route's scope.
func TestRegoTeamPolicy(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	shop := s.AddShop(t, "shop", "read:orders", "write:orders")
	customer := s.Login(t, shop, s.AddUser(t, "ada", "customer"), "read:orders", "write:orders").Access
	approver := s.Login(t, shop, s.AddUser(t, "grace", "customer", "approver"), "write:orders").Access
	narrow := s.Login(t, shop, s.AddUser(t, "mary", "approver"), "read:orders").Access
	_, robot := s.Robot(t, "robot", "write:orders")
	for _, row := range []struct {
		name, token string
		status      int
	}{
		{"an approver", approver, 200},
		{"a customer", customer, 403},
		{"a program", robot, 403},
		{"an approver without the scope", narrow, 403},
		{"nobody", "", 401},
	} {
		answer := s.Call(t, "DELETE", "/orders/7", row.token)
		if answer.Status != row.status {
			t.Errorf("%s: %s, want %d", row.name, answer, row.status)
		}
		scoped := strings.Contains(answer.Challenge(), "insufficient_scope")
		if row.status == 403 && scoped != (row.token == narrow) {
			t.Errorf("%s: the challenge is %q", row.name, answer.Challenge())
		}
	}
	s.Expect(t, 403, "POST", "/orders", narrow) // the default policy alone
	s.Expect(t, 200, "POST", "/orders", customer)
}

// An edited policy decides within a moment, in the same process; a broken one
// changes nothing and is named with its file and line.
func TestRegoReload(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, robot := s.Robot(t, "robot", "write:orders")
	s.Expect(t, 403, "DELETE", "/orders/7", robot)
	authz := s.Process(harness.Authz)

	s.WritePolicy(t, "orders/approve.rego", "package orders.approve\n\nallow if input.token.client_id == \"robot\"\n")
	harness.Eventually(t, 3*time.Second, s.Says(200, "DELETE", "/orders/7", robot))

	for name, broken := range map[string]struct {
		text, line string
	}{
		"it does not parse":   {"package orders.approve\n\nallow if {\n\tinput.token.client_id == == \"robot\"\n}\n", ":4"},
		"it does not compile": {"package orders.approve\n\nallow if input.token.role == \"robot\"\n", ":3"},
		"it asks the network": {"package orders.approve\n\nallow if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200\n", ":3"},
	} {
		mark := authz.Logged()
		s.WritePolicy(t, "orders/approve.rego", broken.text)
		harness.Eventually(t, 3*time.Second, func() error { return namesLine(authz.LogSince(mark), "approve.rego", broken.line) })
		s.Expect(t, 200, "DELETE", "/orders/7", robot)
		if t.Failed() {
			t.Log(name)
		}
	}
	if authz.Ended() || s.Process(harness.Authz) != authz {
		t.Error("the authorizer did not live through it")
	}

	// Mended, it decides anew.
	s.WritePolicy(t, "orders/approve.rego", "package orders.approve\n\nallow if input.token.client_id == \"nobody\"\n")
	harness.Eventually(t, 3*time.Second, s.Says(403, "DELETE", "/orders/7", robot))

	// A broken policy at the start: the authorizer does not start, and says why.
	s.WritePolicy(t, "orders/approve.rego", "package orders.approve\n\nallow if {\n")
	authz.Stop(t)
	again := s.LaunchPart(t, harness.Authz)
	if !again.Wait(10*time.Second) || again.Command.ProcessState.ExitCode() == 0 {
		t.Fatal("an authorizer started with a broken policy")
	}
	if err := namesLine(again.Log(), "approve.rego", ":"); err != nil {
		t.Error(err)
	}
	s.Expect(t, 503, "DELETE", "/orders/7", robot)
}

// namesLine looks for one line of a log that names the file and the line. The
// log's JSON has them as members, the message of a start as file:line.
func namesLine(log, file, line string) error {
	for entry := range strings.Lines(log) {
		if strings.Contains(entry, file) && (strings.Contains(entry, file+line) || strings.Contains(entry, `"line":`+strings.TrimPrefix(line, ":"))) {
			return nil
		}
	}
	return fmt.Errorf("no line of the log names %s%s:\n%s", file, line, log)
}
