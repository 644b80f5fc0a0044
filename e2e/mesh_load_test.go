package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/token"
)

// shortLived makes everything that rotates do so all the time. The gate's own
// certificate, which no workload judges, is by another CA.
func shortLived(t *testing.T) func(*harness.System, harness.Config) {
	return func(s *harness.System, c harness.Config) {
		c.Set("controlplane.ca", map[string]any{"svid_life": "10s", "intermediate_life": "20s"})
		c.Set("authz.assertions", map[string]any{"rotate": "30s"})
		public := t.TempDir()
		s.PublicCA = filepath.Join(public, "ca.crt")
		authority, err := ca.Open(public, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]any{"certificate": filepath.Join(public, "gate.crt"), "key": filepath.Join(public, "gate.key")}
		if _, err := authority.Keep(files["certificate"].(string), files["key"].(string), ca.Subject{Hosts: []string{"localhost"}}); err != nil {
			t.Fatal(err)
		}
		c.Set("gateway.tls", files)
	}
}

// traffic is what must not be lost: requests through the edge on connections
// that stay, others on new ones, and new connections from the edge's identity
// straight to the sidecar of orders. Envoys keep theirs for long, so that these
// alone meet each certificate.
type traffic struct {
	m         *mesh
	tokens    *newest
	loads     map[string]*harness.Running
	assertion struct {
		sync.Mutex
		text string
	}
	seen witness
}

func (m *mesh) startTraffic(t *testing.T) *traffic {
	t.Helper()
	f := &traffic{m: m, tokens: &newest{tokens: []string{m.reads}}, loads: map[string]*harness.Running{}}
	f.learn(t)
	paths := []string{"/orders/1", toProfile("GET", "/profile/1"), "/orders/grpc?to=profile"}
	through := harness.Load{
		Address: m.Gateway(), TLS: m.TLS(t), Workers: 3, Pause: 10 * time.Millisecond, Brief: true,
		Next: func(worker, n int) *http.Request { return m.Request(t, paths[(worker+n)%len(paths)], f.tokens.pick(n)) },
	}
	f.loads["through the gate"] = through.Start(t)
	anew := through
	anew.Workers, anew.Pause = 1, 50*time.Millisecond
	anew.Next = func(worker, n int) *http.Request {
		r := through.Next(worker, n)
		r.Close = true
		return r
	}
	f.loads["on new connections"] = anew.Start(t)
	f.loads["from the edge's identity"] = harness.Load{
		Address: m.Address("orders"), TLS: http1(f.asEdge("the sidecar of orders", ordersID)), Workers: 1, Pause: 50 * time.Millisecond, Brief: true,
		Next: func(_, n int) *http.Request { return f.straight(t, n) },
	}.Start(t)
	return f
}

// learn gets an assertion that the edge was given for orders.
func (f *traffic) learn(t *testing.T) {
	answer, err := f.m.TryCall("GET", "/orders/1", f.tokens.pick(0))
	var got harness.Heard
	if err != nil || answer.Status != http.StatusOK || json.Unmarshal([]byte(answer.Body), &got) != nil {
		return // the other loads tell
	}
	f.assertion.Lock()
	defer f.assertion.Unlock()
	f.assertion.text = assertionOf(t, got)
	if parsed, err := token.Parse(f.assertion.text); err == nil {
		f.seen.note(assertionKeys, parsed.KeyID())
	}
}

// straight is a request for the sidecar of orders, as the edge sends it.
func (f *traffic) straight(t *testing.T, n int) *http.Request {
	if n%40 == 39 {
		f.learn(t)
	}
	r, err := http.NewRequest(http.MethodGet, "http://"+f.m.Address("orders")+"/orders/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.assertion.Lock()
	defer f.assertion.Unlock()
	r.Header.Set("Gatehouse-Assertion", f.assertion.text)
	r.Close = true
	return r
}

// asEdge shows the edge's certificate of the moment to the part with an id, and
// notes what that shows.
func (f *traffic) asEdge(part, id string) *tls.Config {
	config := serve.ClientTLS(kept(filepath.Join(f.m.Dir, "data", "identity", "envoy")), id, time.Now)
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		err := verify(state)
		if err == nil {
			f.seen.chain(part, state)
		}
		return err
	}
	return config
}

func http1(config *tls.Config) *tls.Config {
	config.NextProtos = []string{"http/1.1"}
	return config
}

// kept is the identity in the folder of a part that enrolled.
type kept string

// KeyPair implements serve.Source; the file changes in one step.
func (k kept) KeyPair() (*tls.Certificate, error) {
	text, err := os.ReadFile(filepath.Join(string(k), "identity.pem"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	return &pair, err
}

// Roots implements serve.Source.
func (k kept) Roots() (*x509.CertPool, error) {
	return serve.Identity{Certificate: "-", CA: conf.Path(filepath.Join(string(k), "roots.pem"))}.Roots()
}

func (f *traffic) awaitMore(t *testing.T, n int) {
	t.Helper()
	for _, name := range sorted(f.loads) {
		f.loads[name].AwaitMore(t, n)
	}
}

// lost are the requests that were not answered well, by load.
func (f *traffic) lost() map[string][]harness.Result {
	lost := map[string][]harness.Result{}
	for name, load := range f.loads {
		if bad := harness.Lost(load.Stop()); len(bad) > 0 {
			lost[name] = bad
		}
	}
	return lost
}

func (f *traffic) expectNoneLost(t *testing.T, atLeast int) {
	t.Helper()
	lost := f.lost()
	for name, load := range f.loads {
		if sent := len(load.Stop()); sent < atLeast {
			t.Errorf("%s: %d requests prove nothing", name, sent)
		}
		harness.Complain(t, lost[name], len(load.Stop()), name+" were lost")
	}
}

func sorted[T any](all map[string]T) (names []string) {
	for name := range maps.Keys(all) {
		names = append(names, name)
	}
	return names
}

// said counts what some processes wrote.
func (m *mesh) said(text string, names ...string) (n int) {
	for _, name := range names {
		n += strings.Count(m.Process(name).Log(), text)
	}
	return n
}

// enrolled are the processes whose certificates the workload CA issued.
func (m *mesh) enrolled() []string {
	return []string{harness.Authz, harness.AuthzName(1), harness.Envoy, m.Sidecars["orders"].Name, m.Sidecars["profile"].Name}
}

// rotateRoot replaces the root as docs/identity.md says: each step as soon as it
// is not refused.
func (m *mesh) rotateRoot(t *testing.T) {
	t.Helper()
	m.CLI(t, "ca", "rotate-root", "add")
	for _, step := range []string{"issue", "drop"} {
		harness.Eventually(t, 60*time.Second, func() error {
			if out := m.TryCLI(t, "", "ca", "rotate-root", step); out.Code != 0 {
				return fmt.Errorf("rotate-root %s: %s", step, out.Stderr)
			}
			return nil
		})
	}
}

// replace puts another sidecar beside that of a service, on the same addresses,
// and then ends the first: so nobody waits for either.
func (m *mesh) replace(t *testing.T, service string) {
	t.Helper()
	old := m.Sidecars[service]
	next := m.NewSidecar(t, service, old.Name+"+")
	next.Enrol(t)
	m.Sidecars[service] = next
	old.Process.Stop(t)
}

// Certificates of every kind, roots and assertion keys rotate, and each part is
// restarted, under a load that must lose nothing.
func TestMeshUnderTraffic(t *testing.T) {
	short := shortLived(t)
	m := startMesh(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		short(s, c)
		c.Route("profile")["timeout"] = "60s" // so what goes to profile is watched
	}})
	f := m.startTraffic(t)
	f.awaitMore(t, 20)
	began := time.Now()
	step := func(name string, do func()) {
		before := time.Now()
		do()
		f.awaitMore(t, 20)
		t.Logf("%s: %v", name, time.Since(before).Round(100*time.Millisecond))
	}
	step("a root", func() { m.rotateRoot(t) })
	for _, name := range []string{harness.Authz, harness.AuthzName(1)} {
		step("restart of "+name, func() { m.Process(name).Stop(t); m.StartPart(t, name) })
	}
	step("restart of the control plane", func() { m.Process(harness.ControlPlane).Stop(t); m.StartPart(t, harness.ControlPlane) })
	step("another sidecar of profile", func() { m.replace(t, "profile") })
	step("another root", func() { m.rotateRoot(t) })
	step("everything else", func() {
		// Four keys are of the authorizers that started: one grew old.
		harness.Eventually(t, 90*time.Second, func() error { return m.turned(f, 20, 4, 5) })
	})
	t.Logf("%v: %d certificates", time.Since(began).Round(time.Second), m.said(`"msg":"new certificate"`, m.enrolled()...))
	f.expectNoneLost(t, 500)
}

// turned tells whether so many certificates, intermediates and assertion keys
// came into use.
func (m *mesh) turned(f *traffic, certificates, signers, keys int) error {
	if n := m.said(`"msg":"new certificate"`, m.enrolled()...); n < certificates {
		return fmt.Errorf("%d certificates", n)
	}
	if n := f.seen.count(intermediates); n < signers {
		return fmt.Errorf("%d intermediates", n)
	}
	if n := m.said(`"msg":"assertion key signs"`, harness.Authz, harness.AuthzName(1)); n < keys {
		return fmt.Errorf("%d assertion keys", n)
	}
	return nil
}

// The control: a root that issues before everybody trusts it, which needs
// --force, loses requests.
func TestMeshRootControl(t *testing.T) {
	m := startMesh(t, harness.Options{Configure: shortLived(t)})
	f := m.startTraffic(t)
	f.awaitMore(t, 20)
	supervisor := m.Sidecars["orders"].Process
	supervisor.Signal(syscall.SIGSTOP) // it hears of nothing, and its Envoy goes on
	defer supervisor.Signal(syscall.SIGCONT)
	m.CLI(t, "ca", "rotate-root", "add")
	if out := m.TryCLI(t, "", "ca", "rotate-root", "issue"); out.Code == 0 || !strings.Contains(out.Stderr, "do not trust the new root yet, among them "+ordersID) {
		t.Errorf("the new root issues though a sidecar does not trust it: %+v", out)
	}
	m.CLI(t, "ca", "rotate-root", "issue", "--force")
	harness.Eventually(t, 30*time.Second, func() error {
		if last := f.loads["from the edge's identity"].Last(0); last.Err == nil {
			return errors.New("nothing is lost yet")
		}
		return nil
	})
	supervisor.Signal(syscall.SIGCONT)
	harness.Eventually(t, 20*time.Second, func() error { return f.loads["from the edge's identity"].Last(0).Err })
	if len(f.lost()) == 0 {
		t.Error("nothing was lost")
	}
}

// The control: an authorizer whose assertion key signs, though nobody else
// holds it.
func TestMeshAssertionControl(t *testing.T) {
	m := startMesh(t, harness.Options{})
	f := m.startTraffic(t)
	f.awaitMore(t, 20)
	m.Process(harness.Authz).Stop(t)
	m.Edit(t, func(c harness.Config) {
		// A control plane that may be on another machine has no default for trust.
		_, port, _ := net.SplitHostPort(c.Text("controlplane.listen"))
		c.Set("authz.trust", nil).Set("controlplane.listen", "0.0.0.0:"+port)
	})
	m.StartPart(t, harness.Authz)
	f.awaitMore(t, 50)
	if len(f.lost()) == 0 {
		t.Error("what it signs is taken without its key")
	}
	if !m.authorizersSaid("no authorizer's key has the kid") {
		t.Error("no authorizer's log says why")
	}
}
