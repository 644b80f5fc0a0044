// Package clients logs people in with clients that others wrote, against a
// running gate: what a standard leaves open, they decide.
package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// scopes are what every client here asks for.
var scopes = []string{"openid", "profile", "email", "offline_access", "read:orders"}

// found is what a client says in the end.
type found struct {
	Subject   string `json:"subject"`
	Login     string `json:"login"`
	Access    string `json:"access"`
	Refreshed string `json:"refreshed"`
	Opened    int    `json:"opened"`
	Alive     bool   `json:"alive"`
	Dead      bool   `json:"dead"`
	Logout    string `json:"logout"`
}

// run starts a client's program and has open go where it asks a person to go.
func run(t *testing.T, s *harness.System, open func(address string), into any, settings map[string]any, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, argv[0], append(argv[1:], string(text))...)
	command.Dir = filepath.Join(harness.Root(), "e2e", "clients")
	command.Env = append(command.Environ(), "NODE_EXTRA_CA_CERTS="+s.CAPath(), "REQUESTS_CA_BUNDLE="+s.CAPath(),
		"PYTHONPATH="+filepath.Join(harness.Root(), ".tools", "python"))
	var problems strings.Builder
	command.Stderr = &problems
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	said := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "OPEN":
			open(rest)
		case "RESULT":
			said = json.Unmarshal([]byte(rest), into) == nil
		}
	}
	if err := command.Wait(); err != nil || !said {
		t.Fatalf("%v: %v\n%s", argv, err, problems.String())
	}
}

// login goes where the client says, logs in, and back to the client.
func login(t *testing.T, s *harness.System, p harness.Person) func(address string) {
	return func(address string) {
		t.Helper()
		b := s.NewBrowser(t)
		back := b.LogIn(address, p.Login, p.Password)
		if b.Open(back.String()); b.Status != 200 {
			t.Fatalf("the client answers %d to %s", b.Status, back.Path)
		}
	}
}

func settingsOf(s *harness.System, c harness.Client, redirect string) map[string]any {
	return map[string]any{
		"issuer": s.URL(""), "client": c.ID, "secret": c.Secret, "redirect": redirect,
		"scope": strings.Join(scopes, " "), "audience": harness.OrdersAPI, "api": s.URL("/orders"),
	}
}

func callback(t *testing.T) string { return "http://" + harness.FreeAddress(t) + "/callback" }

// The usual life of a login: code with PKCE, ID token, userinfo, refresh,
// introspection, revocation; and the gate opens for the tokens meanwhile.
func TestLogins(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	p := s.AddUser(t, "alice", "customer")
	for name, argv := range map[string][]string{
		"openid-client": {"node", "node/openid-client.mjs"},
		"oauth4webapi":  {"node", "node/oauth4webapi.mjs"},
		"authlib":       {"python3", "python/authlib_client.py"},
	} {
		t.Run(name, func(t *testing.T) {
			redirect := callback(t)
			c := s.AddLogin(t, name, redirect, scopes)
			var got found
			run(t, s, login(t, s, p), &got, settingsOf(s, c, redirect), argv...)
			if got.Login != "alice" || !strings.HasPrefix(got.Subject, "usr_") || !got.Alive || got.Dead || got.Opened != 200 {
				t.Errorf("it found %+v", got)
			}
			s.Expect(t, 401, "GET", "/orders", got.Refreshed) // its grant was revoked
			if got.Access == got.Refreshed {
				t.Error("the refreshed token is the first one")
			}
		})
	}
}
