package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/controlplane"
)

// recorder is a control plane that takes down what it is told.
type recorder struct {
	applied  chan controlplane.Gateway
	refused  chan error
	sidecars chan []string
}

func (r *recorder) Apply(_ context.Context, g controlplane.Gateway) error {
	r.applied <- g
	return nil
}

func (r *recorder) Refused(err error) { r.refused <- err }

// logs is a log to look through.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// follow runs a Reloader on a prepared configuration until the test ends.
func follow(t *testing.T, path string) (*recorder, *logs) {
	t.Helper()
	c := load(t, path)
	if err := c.Prepare(c.All(), time.Now); err != nil {
		t.Fatal(err)
	}
	told, log := &recorder{make(chan controlplane.Gateway, 16), make(chan error, 16), make(chan []string, 16)}, &logs{}
	reloader := NewReloader(c, told, slog.New(slog.NewTextHandler(log, nil)))
	reloader.sidecars = func(g controlplane.Gateway) { told.sidecars <- g.LocalSidecars() }
	reloader.files.settle, reloader.files.poll = 5*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reloader.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return told, log
}

func receive[T any](t *testing.T, from chan T, what string) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not come", what)
	}
	return value
}

// rename replaces a file as editors do.
func rename(t *testing.T, path, text string) {
	t.Helper()
	writeText(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func paths(g controlplane.Gateway) (all []string) {
	for _, r := range g.Routes {
		all = append(all, r.Path)
	}
	return all
}

func TestAnEditOfTheGatewayIsApplied(t *testing.T) {
	path := write(t, small)
	told, _ := follow(t, path)
	for _, edit := range []struct {
		how  string
		save func(*testing.T, string, string)
		path string
	}{
		{"written in place", writeText, "/one"},
		{"renamed over", rename, "/two"},
		{"removed and made anew", func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			writeText(t, path, text)
		}, "/three"},
	} {
		edit.save(t, path, strings.Replace(small, "path: /", "path: "+edit.path, 1))
		if diff := cmp.Diff([]string{edit.path}, paths(receive(t, told.applied, edit.how))); diff != "" {
			t.Errorf("%s: %s", edit.how, diff)
		}
	}
}

// Kubernetes puts files behind two symbolic links and swaps the inner one.
func TestASwapOfALinkedFolderIsApplied(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "..1", "gatehouse.yaml"), small)
	writeText(t, filepath.Join(dir, "..2", "gatehouse.yaml"), strings.Replace(small, "path: /", "path: /swapped", 1))
	for link, target := range map[string]string{"..data": "..1", "gatehouse.yaml": "..data/gatehouse.yaml", "..next": "..2"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	told, _ := follow(t, filepath.Join(dir, "gatehouse.yaml"))
	if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/swapped"}, paths(receive(t, told.applied, "the swap"))); diff != "" {
		t.Error(diff)
	}
}

func TestAnInvalidEditIsRefused(t *testing.T) {
	path := write(t, small)
	told, log := follow(t, path)
	rename(t, path, strings.Replace(small, "scopes: [read:hello]}\nissuer", "scopes: [write:hello]}\nissuer", 1))
	if refused := receive(t, told.refused, "the refusal"); !strings.Contains(refused.Error(), "gatehouse.yaml:6: gateway.routes[0].scopes[0]") {
		t.Errorf("refused for %v", refused)
	}
	if !strings.Contains(log.String(), "gatehouse.yaml:6: gateway.routes[0].scopes[0]") {
		t.Errorf("the log has neither line nor key:\n%s", log)
	}
	// What comes next counts again, and nothing was applied meanwhile.
	rename(t, path, strings.Replace(small, "path: /", "path: /good", 1))
	if diff := cmp.Diff([]string{"/good"}, paths(receive(t, told.applied, "the next edit"))); diff != "" {
		t.Error(diff)
	}
}

// An edit taken back leaves nothing refused, though nothing is applied.
func TestARefusedEditTakenBackIsForgotten(t *testing.T) {
	path := write(t, small)
	told, _ := follow(t, path)
	rename(t, path, "gateway: [unclosed\n")
	if refused := receive(t, told.refused, "the refusal"); refused == nil {
		t.Fatal("nothing was refused")
	}
	rename(t, path, small)
	if refused := receive(t, told.refused, "its end"); refused != nil {
		t.Errorf("still refused: %v", refused)
	}
}

// An edit of another part is told with its keys; the gateway's share of the
// same edit is applied, on top of the other parts as they run.
func TestAnotherPartsEditNeedsARestart(t *testing.T) {
	path := write(t, small)
	told, log := follow(t, path)
	edited := strings.Replace(small, "issuer:\n", "issuer:\n  listen: 127.0.0.1:9999\n", 1)
	edited = strings.Replace(edited, "path: /", "path: /new", 1)
	rename(t, path, edited)
	applied := receive(t, told.applied, "the gateway's share")
	if applied.Routes[0].Path != "/new" || !strings.HasSuffix(applied.Issuer.URL, "/run/issuer.sock") {
		t.Errorf("applied %v with the issuer at %s, which still runs on its socket", paths(applied), applied.Issuer.URL)
	}
	if said := log.String(); !strings.Contains(said, "issuer.listen") || !strings.Contains(said, "restart") || !strings.Contains(said, "parts=\"[issuer authz controlplane]\"") {
		t.Errorf("the log does not say what to restart:\n%s", said)
	}
}

// With the first plan, every route counts: what the control plane has made of
// the routes is another thing then, and nothing would be counted without it.
func TestTheFirstPlanNeedsTheControlPlane(t *testing.T) {
	const one, two = "ratelimit: {plans: {free: {daily: 1}}, default_plan: free}\n", "ratelimit: {plans: {free: {daily: 2}}, default_plan: free}\n"
	for name, row := range map[string]struct{ before, after, parts string }{
		"the first":        {"ratelimit: {}\n", one, "[ratelimit controlplane]"},
		"the last":         {one, "ratelimit: {}\n", "[ratelimit controlplane]"},
		"another number":   {one, two, "[ratelimit]"},
		"the first at all": {"", one, "[ratelimit controlplane]"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, small+row.before)
			told, log := follow(t, path)
			rename(t, path, strings.Replace(small, "path: /", "path: /new", 1)+row.after)
			receive(t, told.applied, "the gateway's share")
			if said := strings.ReplaceAll(log.String(), `"`, ""); !strings.Contains(said, "parts="+row.parts) {
				t.Errorf("want %s:\n%s", row.parts, said)
			}
		})
	}
}

// Where parts are processes of their own, each names all that have to be
// restarted: the file is one.
func TestAProcessNamesTheOthersParts(t *testing.T) {
	c := load(t, write(t, small))
	log := &logs{}
	reloader := NewReloader(c, nil, slog.New(slog.NewTextHandler(log, nil)))
	writeText(t, c.Path(), strings.Replace(small, "issuer:\n", "issuer:\n  access_token_lifetime: 1m\n", 1))
	reloader.reload(t.Context())
	if said := log.String(); !strings.Contains(said, "parts=[issuer]") {
		t.Errorf("the log does not name the issuer:\n%s", said)
	}
}

// Whoever runs the sidecars of this machine hears which an edit leaves.
func TestSidecarsFollowAnEdit(t *testing.T) {
	path := write(t, small)
	told, _ := follow(t, path)
	edited := strings.Replace(small, "hello: {url: http://127.0.0.1:9300}", "hello: {url: http://127.0.0.1:9300, sidecar: {address: 127.0.0.1:9301}}", 1)
	rename(t, path, edited)
	if got := receive(t, told.sidecars, "the sidecars of the edit"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("the sidecars are %q", got)
	}
	rename(t, path, small)
	if got := receive(t, told.sidecars, "the sidecars of the edit back"); len(got) > 0 {
		t.Errorf("the sidecars are %q", got)
	}
}

// A policy may arrive after the route that names it.
func TestARefusedEditIsTriedAgain(t *testing.T) {
	path := write(t, small)
	told, log := follow(t, path)
	rename(t, path, strings.Replace(small, "scopes: [read:hello]}\nissuer", "scopes: [read:hello], policy: hello.approve}\nissuer", 1))
	receive(t, told.refused, "the refusal")
	writeText(t, filepath.Join(filepath.Dir(path), "policies", "approve.rego"), "package hello.approve\n\nallow if input.request.method == \"GET\"\n")
	if applied := receive(t, told.applied, "the edit, once its policy is there"); applied.Routes[0].Policy != "hello.approve" {
		t.Errorf("applied %v", applied.Routes)
	}
	if n := strings.Count(log.String(), "configuration refused"); n != 1 {
		t.Errorf("refused %d times in the log", n)
	}
}

// Broken policies are refused where they are used; the gateway's edits go on.
func TestBrokenPoliciesDoNotHoldUpAnEdit(t *testing.T) {
	path := write(t, small)
	told, _ := follow(t, path)
	writeText(t, filepath.Join(filepath.Dir(path), "policies", "bad.rego"), "package bad\n\nallow if {\n")
	rename(t, path, strings.Replace(small, "path: /", "path: /on", 1))
	if diff := cmp.Diff([]string{"/on"}, paths(receive(t, told.applied, "the edit"))); diff != "" {
		t.Error(diff)
	}
}

func TestANewCertificateIsApplied(t *testing.T) {
	path := write(t, small)
	told, _ := follow(t, path)
	c := load(t, path)
	later := func() time.Time { return time.Now().Add(80 * 24 * time.Hour) }
	if err := c.Prepare(c.All(), later); err != nil {
		t.Fatal(err)
	}
	receive(t, told.applied, "the renewed certificate")
}

// An edit made after the configuration was read and before it is followed is
// not lost.
func TestAnEditDuringTheStartIsApplied(t *testing.T) {
	path := write(t, small)
	c := load(t, path)
	rename(t, path, strings.Replace(small, "path: /", "path: /early", 1))
	told := &recorder{applied: make(chan controlplane.Gateway, 1), refused: make(chan error, 1)}
	reloader := NewReloader(c, told, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go reloader.Run(ctx)
	if diff := cmp.Diff([]string{"/early"}, paths(receive(t, told.applied, "the early edit"))); diff != "" {
		t.Error(diff)
	}
}

// A list of networks is followed as the configuration is, and one that cannot
// be read changes nothing.
func TestAnEditOfAListIsApplied(t *testing.T) {
	path := write(t, small)
	list := filepath.Join(filepath.Dir(path), "bad.txt")
	writeText(t, list, "192.0.2.1\n")
	writeText(t, path, strings.Replace(small, "gateway:\n", "gateway:\n  ip_lists: {bad: {file: bad.txt}}\n  networks: {deny: [bad]}\n", 1))
	told, log := follow(t, path)
	rename(t, list, "192.0.2.2\n")
	receive(t, told.applied, "the edit")
	rename(t, list, "nonsense\n")
	if err := receive(t, told.refused, "the refusal"); err == nil || !strings.Contains(err.Error(), "gateway.ip_lists.bad.file") {
		t.Errorf("refused for %v\n%s", err, log)
	}
	rename(t, list, "192.0.2.3\n")
	receive(t, told.applied, "the edit after")
}
