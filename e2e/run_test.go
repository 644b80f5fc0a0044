package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// sampleCheckout has the sample beside bin/gatehouse, without its data.
func sampleCheckout(t *testing.T) *harness.Folder {
	t.Helper()
	f := checkout(t)
	if err := os.CopyFS(filepath.Join(f.Dir, "sample", "policies"), os.DirFS(filepath.Join(harness.Root(), "sample", "policies"))); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(harness.Root(), "sample", "gatehouse.yaml"), filepath.Join(f.Dir, "sample", "gatehouse.yaml"))
	return f
}

// launchSample runs what `make run` runs.
func launchSample(t *testing.T, f *harness.Folder, name string) *harness.Process {
	t.Helper()
	command := exec.Command("bin/gatehouse", "run", "--sample", "--config", "sample/gatehouse.yaml")
	command.Env = append(command.Environ(), "ENVOY="+harness.EnvoyPath(t))
	command.Dir = f.Dir
	return f.Launch(t, name, command)
}

// awaitBanner waits until the sample is ready, and returns its banner.
func awaitBanner(t *testing.T, p *harness.Process) string {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if p.Ended() {
			t.Fatalf("the sample ended:\n%s", p.Log())
		}
		if !strings.Contains(p.Out(), "profile\n") { // its last command
			return fmt.Errorf("no banner yet: %q\n%s", p.Out(), p.Log())
		}
		return nil
	})
	return p.Out()
}

// step is one suggestion of the banner: what it says, and the commands.
type step struct{ says, commands string }

// steps are the banner's suggestions: comment lines, then commands.
func steps(banner string) (all []step) {
	for line := range strings.Lines(banner) {
		text, indented := strings.CutPrefix(line, "  ")
		switch {
		case !indented:
		case strings.HasPrefix(text, "#"):
			all = append(all, step{says: strings.TrimSpace(text[1:])})
		case len(all) > 0:
			all[len(all)-1].commands += text
		}
	}
	return all
}

var (
	expected = regexp.MustCompile(`\((\d{3})\)`)
	got      = regexp.MustCompile(`(?m)^HTTP/\S+ (\d{3})`)
	loginURL = regexp.MustCompile(`https://localhost:8443/oauth/authorize\?\S+`)
	shown    = regexp.MustCompile(`(?m)^TOKEN=(.*)$`)
)

// bannerSays is a word that only the right part says, by how a suggestion of the
// banner begins.
var bannerSays = map[string]string{
	"a route that forgot": "The scope write:orders is required.",
	"two hops":            `"via":["spiffe://gatehouse.local/service/orders"]`,
}

// What `make run` starts, as its user finds it: every command of the banner
// does what the banner says, Ctrl-C leaves nothing behind, and a second start
// finds everything again.
func TestRunSmoke(t *testing.T) {
	awaitFreePorts(t)
	f := sampleCheckout(t)
	running := launchSample(t, f, "run")
	banner := awaitBanner(t, running)
	token := tryBanner(t, f, "first", banner)
	secrets := sampleSecrets(t, f)
	if n := strings.Count(running.Log(), `"msg":"envoy started"`); n != 3 {
		t.Errorf("%d Envoys were started, want the edge and two sidecars", n)
	}

	// A second one, while the first runs: one clear sentence.
	second := launchSample(t, f, "second")
	if !second.Wait(20*time.Second) || second.Command.ProcessState.ExitCode() != 1 {
		t.Fatalf("a second gatehouse on the same ports: %v\n%s", second.Command.ProcessState, second.Log())
	}
	if said := lastLine(second.Log()); !strings.HasPrefix(said, "gatehouse: ") || !strings.Contains(said, "in use") {
		t.Errorf("it says %q", said)
	}

	running.Interrupt()
	if !running.Wait(15*time.Second) || running.Command.ProcessState.ExitCode() != 0 {
		t.Errorf("Ctrl-C: %v\n%s", running.Command.ProcessState, running.Log())
	}
	f.AwaitNobody(t, time.Second)

	again := launchSample(t, f, "again")
	awaitBanner(t, again)
	if now := sampleSecrets(t, f); now != secrets {
		t.Error("the second start made new secrets")
	}
	answer := f.Bash(t, `curl -sS --cacert sample/data/ca/ca.crt -H "Authorization: Bearer $TOKEN" https://localhost:8443/profile`, "", "TOKEN="+token)
	if !strings.Contains(answer.Stdout, "x-gatehouse-subject") {
		t.Errorf("a token of the first run, in the second: %s%s", answer.Stdout, answer.Stderr)
	}
	tryBanner(t, f, "again", again.Out())

	// kill -9 cannot drain, yet Envoy does not outlive it.
	again.Kill()
	f.AwaitNobody(t, 3*time.Second)
}

// tryBanner does what the banner of a run suggests, and returns the token of its
// last step.
func tryBanner(t *testing.T, f *harness.Folder, run, banner string) (token string) {
	t.Helper()
	suggestions := steps(banner)
	statuses := 0
	for i, s := range suggestions {
		var out harness.Output
		script := s.commands + "\nprintf '\\nTOKEN=%s\\n' \"$TOKEN\"\n"
		if strings.Contains(s.commands, "token login") {
			out = withBrowser(t, f, fmt.Sprintf("login-%s-%d", run, i), script)
		} else {
			out = f.Bash(t, script, "", "TOKEN="+token)
		}
		if out.Code != 0 {
			t.Errorf("%s: exit code %d\n%s\n%s%s", s.says, out.Code, s.commands, out.Stdout, out.Stderr)
		}
		if found := shown.FindStringSubmatch(out.Stdout); found != nil {
			token = found[1]
		}
		for topic, word := range bannerSays {
			if strings.HasPrefix(s.says, topic) && !strings.Contains(out.Stdout, word) {
				t.Errorf("%s: nothing says %q:\n%s%s", s.says, word, out.Stdout, out.Stderr)
			}
		}
		if want := expected.FindStringSubmatch(s.says); want != nil {
			statuses++
			if status := got.FindStringSubmatch(out.Stdout); status == nil || status[1] != want[1] {
				t.Errorf("%s: the answer is %v\n%s", s.says, status, out.Stdout)
			}
		}
	}
	if statuses < 6 || token == "" {
		t.Errorf("the banner has %d calls with a status, and ends with the token %q:\n%s", statuses, token, banner)
	}
	return token
}

// withBrowser runs a script that waits for a login, and logs the sample user
// in with the password that the script shows.
func withBrowser(t *testing.T, f *harness.Folder, name, script string) harness.Output {
	t.Helper()
	command := exec.Command("bash", "-eu", "-c", script)
	command.Dir = f.Dir
	p := f.Launch(t, name, command)
	harness.Eventually(t, 10*time.Second, func() error {
		if !loginURL.MatchString(p.Log()) {
			return fmt.Errorf("no URL to log in at: %q", p.Log())
		}
		return nil
	})
	password := strings.TrimSpace(strings.SplitN(p.Out(), "\n", 2)[0])
	client := &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: harness.Trust(t, filepath.Join(f.Dir, "sample", "data", "ca", "ca.crt"))},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	browser := harness.OpenBrowser(t, client)
	browser.Open(browser.LogIn(loginURL.FindString(p.Log()), "alice", password).String())
	if browser.Status != 200 {
		t.Errorf("the login ends with %d %s", browser.Status, browser.Page)
	}
	if !p.Wait(10 * time.Second) {
		t.Fatalf("the command still waits after the login:\n%s", p.Log())
	}
	return harness.Output{Stdout: p.Out(), Stderr: p.Log(), Code: p.Command.ProcessState.ExitCode()}
}

func sampleSecrets(t *testing.T, f *harness.Folder) (all string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(f.Dir, "sample", "data", "sample", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the sample's secrets are %v: %v", files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(content)
	}
	return all
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// What can be wrong at a start is one sentence with a remedy, and nothing is
// left running.
func TestRunRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		change      func(*harness.System, harness.Config)
		environment string
		says        []string
	}{
		"the edge's port":      {takePort(t, "gateway.listen"), "", []string{"gateway.listen", "in use"}},
		"the redirect's port":  {takePort(t, "gateway.redirect_listen"), "", []string{"gateway.redirect_listen", "in use"}},
		"the issuer's port":    {takePort(t, "issuer.listen"), "", []string{"issuer.listen", "in use"}},
		"a telemetry port":     {takePort(t, "authz.telemetry"), "", []string{"authz.telemetry", "in use"}},
		"Envoy's admin port":   {takePort(t, "envoy.admin"), "", []string{"envoy.admin", "in use"}},
		"no Envoy":             {func(_ *harness.System, c harness.Config) { c.Set("envoy.path", "/nowhere/envoy") }, "", []string{"/nowhere/envoy"}},
		"no Envoy at $ENVOY":   {func(_ *harness.System, c harness.Config) { c.Set("envoy.path", nil) }, "ENVOY=/nowhere/envoy", []string{"/nowhere/envoy"}},
		"an Envoy too old":     {fakeEnvoy("1.10.0"), "", []string{"1.10.0", "1.40"}},
		"something else there": {func(_ *harness.System, c harness.Config) { c.Set("envoy.path", "/bin/true") }, "", []string{"/bin/true"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Prepare(t, harness.Options{Configure: row.change})
			command := exec.Command(harness.Binary(t), "run", "--config", s.ConfigPath(""))
			if row.environment != "" {
				command.Env = append(command.Environ(), row.environment)
			}
			p := s.Launch(t, "run", command)
			if !p.Wait(15*time.Second) || p.Command.ProcessState.ExitCode() != 1 {
				t.Fatalf("it did not end by itself with 1: %v\n%s", p.Command.ProcessState, p.Log())
			}
			said := lastLine(p.Log())
			if !strings.HasPrefix(said, "gatehouse: ") || len(said) > 400 {
				t.Errorf("it says %q", said)
			}
			for _, word := range row.says {
				if !strings.Contains(said, word) {
					t.Errorf("it says %q, without %q", said, word)
				}
			}
			s.AwaitNobody(t, time.Second)
		})
	}
}

// takePort has somebody else listen where the configuration says.
func takePort(t *testing.T, key string) func(*harness.System, harness.Config) {
	return func(_ *harness.System, c harness.Config) { c.Set(key, harness.TakenAddress(t)) }
}

// fakeEnvoy is an executable that calls itself an Envoy of a version.
func fakeEnvoy(version string) func(*harness.System, harness.Config) {
	return func(s *harness.System, c harness.Config) {
		path := filepath.Join(s.Dir, "envoy")
		script := "#!/bin/sh\necho\necho \"envoy  version: abcdef/" + version + "/Clean/RELEASE/BoringSSL\"\n"
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			panic(err)
		}
		c.Set("envoy.path", path)
	}
}
