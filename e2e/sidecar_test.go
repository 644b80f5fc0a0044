package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// sidecarSite is a site over mutual TLS whose service orders has a sidecar.
func sidecarSite(t *testing.T) *harness.System {
	t.Helper()
	configure := overTLS(t)
	return harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		configure(s, c)
		c.Set("controlplane.enrolment_listen", harness.FreeAddress(t))
		c.Set("gateway.services.orders.sidecar", map[string]any{"address": harness.FreeAddress(t)})
	}})
}

// joinToken is a file with a token for a SPIFFE id.
func joinToken(t *testing.T, s *harness.System, id string) string {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.Socket("ca"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	made, err := workloadv1.NewWorkloadsClient(conn).CreateToken(t.Context(), &workloadv1.CreateTokenRequest{SpiffeId: id})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(made.GetToken()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sidecar is `gatehouse sidecar` beside orders.
type sidecar struct {
	system    *harness.System
	state     string
	telemetry string
	process   *harness.Process
}

func newSidecar(t *testing.T, s *harness.System) *sidecar {
	t.Helper()
	return &sidecar{system: s, state: filepath.Join(s.Dir, "orders"), telemetry: harness.FreeAddress(t)}
}

func (c *sidecar) launch(t *testing.T, name string, more ...string) {
	t.Helper()
	config := c.system.Config()
	c.process = c.system.Launch(t, name, exec.Command(harness.Binary(t), append([]string{
		"sidecar", "--service", "orders", "--enrol", config.Text("controlplane.enrolment_listen"), "--xds", config.Text("controlplane.listen"),
		"--state", c.state, "--telemetry", c.telemetry, "--concurrency", "1",
	}, more...)...))
}

func (c *sidecar) awaitReady(t *testing.T) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		if c.process.Ended() {
			t.Fatalf("the sidecar ended:\n%s", c.process.Log())
		}
		status, body, err := harness.Get("http://" + c.telemetry + "/readyz")
		if err == nil && status != 200 {
			err = errors.New(body)
		}
		return err
	})
}

// presents is the certificate that the sidecar's inbound listener shows to the
// edge.
func (c *sidecar) presents(t *testing.T, edge serve.Identity) (*tls.ConnectionState, error) {
	t.Helper()
	config := serve.ClientTLS(edge, envoy.ServiceIdentity(trustDomain, "orders"), time.Now)
	conn, err := tls.Dial("tcp", c.system.Config().Text("gateway.services.orders.sidecar.address"), config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return &state, nil
}

var envoyPID = regexp.MustCompile(`"msg":"envoy started".*"pid":(\d+)`)

func (c *sidecar) envoyPIDs(t *testing.T) (pids []int) {
	t.Helper()
	for _, m := range envoyPID.FindAllStringSubmatch(c.process.Log(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// A sidecar enrols once, serves with its own identity, survives its Envoy and
// restarts without a token.
func TestSidecarProcess(t *testing.T) {
	s := sidecarSite(t)
	edge := identity(t, filepath.Join(s.Dir, "data", "ca"), "edge", envoy.EdgeIdentity(trustDomain))
	c := newSidecar(t, s)
	token := joinToken(t, s, envoy.ServiceIdentity(trustDomain, "orders"))
	c.launch(t, "sidecar", "--join-token", token)
	c.awaitReady(t)
	first, err := c.presents(t, edge)
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := harness.Get("http://" + c.telemetry + "/assertion-keys"); err != nil || status != 200 || !strings.Contains(body, `"keys":[`) {
		t.Errorf("the assertion keys: %d %s %v", status, body, err)
	}

	pid := c.envoyPIDs(t)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, func() error {
		if len(c.envoyPIDs(t)) < 2 {
			return errors.New("no other Envoy yet")
		}
		_, err := c.presents(t, edge)
		return err
	})
	c.awaitReady(t)

	c.process.Stop(t)
	for _, pid := range c.envoyPIDs(t) {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Envoy %d is still there: %v", pid, err)
		}
	}
	keepsItsKey(t, c)

	c.launch(t, "sidecar-again")
	c.awaitReady(t)
	again, err := c.presents(t, edge)
	if err != nil {
		t.Fatal(err)
	}
	if !again.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Error("a second start has another certificate, though the first was fresh")
	}
	c.process.Stop(t)
	saysWhoTookItsPort(t, c)
}

// saysWhoTookItsPort starts it where something else listens on its address.
func saysWhoTookItsPort(t *testing.T, c *sidecar) {
	t.Helper()
	taken, err := net.Listen("tcp", c.system.Config().Text("gateway.services.orders.sidecar.address"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.launch(t, "sidecar-without-its-port")
	harness.Eventually(t, 20*time.Second, func() error {
		status, body, err := harness.Get("http://" + c.telemetry + "/readyz")
		if err == nil && (status != 503 || !strings.Contains(body, "cannot bind")) {
			err = fmt.Errorf("readyz says %d %s", status, body)
		}
		return err
	})
	if strings.Contains(c.process.Log(), `"msg":"ready"`) {
		t.Error("it was ready without a listener")
	}
	c.process.Stop(t)
}

// keepsItsKey finds the key in the state folder alone, where nobody else can
// read it.
func keepsItsKey(t *testing.T, c *sidecar) {
	t.Helper()
	for _, secret := range []string{"PRIVATE KEY", "ghj1."} {
		if strings.Contains(c.process.Log()+c.process.Out(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	keys := 0
	err := filepath.WalkDir(c.state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), "PRIVATE KEY") {
			keys++
		}
		return err
	})
	if err != nil || keys != 1 {
		t.Errorf("%d files hold a key, want 1 (%v)", keys, err)
	}
}

// What cannot work is told at once, or in the log, and says what to do.
func TestSidecarRefusals(t *testing.T) {
	s := sidecarSite(t)
	orders := envoy.ServiceIdentity(trustDomain, "orders")
	used := joinToken(t, s, orders)
	c := newSidecar(t, s)
	c.launch(t, "first", "--join-token", used)
	c.awaitReady(t)
	c.process.Stop(t)

	for name, row := range map[string]struct {
		token, want string
		ends        bool
	}{
		"no-token":            {"", "gatehouse workload token", true},
		"used-token":          {used, "the CA refused the join token", false},
		"token-of-another":    {joinToken(t, s, envoy.ServiceIdentity(trustDomain, "profile")), "get one for this workload", false},
		"no-file-at-the-path": {filepath.Join(s.Dir, "none"), "no such file", false},
	} {
		c := newSidecar(t, s)
		c.state = filepath.Join(s.Dir, name)
		var flags []string
		if row.token != "" {
			flags = []string{"--join-token", row.token}
		}
		c.launch(t, name, flags...)
		harness.Eventually(t, 10*time.Second, func() error {
			if !strings.Contains(c.process.Log(), row.want) {
				return fmt.Errorf("%s: %q is not said:\n%s", name, row.want, c.process.Log())
			}
			return nil
		})
		if row.ends {
			if !c.process.Wait(10 * time.Second) {
				t.Errorf("%s: it goes on", name)
			}
			continue
		}
		if status, _, err := harness.Get("http://" + c.telemetry + "/readyz"); err != nil || status != 503 {
			t.Errorf("%s: readyz says %d %v", name, status, err)
		}
		c.process.Stop(t)
	}
}

// `gatehouse envoy --agent` hands an Envoy that something else runs what it
// needs, with the bootstrap that --bootstrap prints.
func TestSidecarAgentAlone(t *testing.T) {
	s := harness.Prepare(t, harness.Options{Configure: overTLS(t)})
	for _, part := range []string{harness.Issuer, harness.ControlPlane, harness.Authz} {
		s.StartPart(t, part)
	}
	s.Launch(t, "agent", exec.Command(harness.Binary(t), "envoy", "--agent", "--config", s.ConfigPath("")))
	bootstrap := filepath.Join(s.Dir, "bootstrap.json")
	if err := os.WriteFile(bootstrap, []byte(s.CLI(t, "envoy", "--bootstrap")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Launch(t, harness.Envoy, exec.Command(harness.EnvoyPath(t), "-c", bootstrap, "--disable-hot-restart", "--concurrency", "1"))
	s.AwaitReady(t, harness.Envoy)
	_, access := s.Robot(t, "robot", "read:orders")
	harness.Eventually(t, 10*time.Second, s.Says(200, "GET", "/orders", access))
}
