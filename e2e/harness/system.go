package harness

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Names of the processes. Further authorizers are authz-2, authz-3, …
const (
	Issuer       = "issuer"
	Authz        = "authz"
	ControlPlane = "controlplane"
	Envoy        = "envoy"
	RateLimit    = "ratelimit" // where the configuration has one
)

// startTime is how long a part may take until it is ready.
const startTime = 20 * time.Second

// Options say how a system differs from the usual one.
type Options struct {
	// Authorizers is how many there are; 0: one.
	Authorizers int
	// Configure changes the configuration before anything starts.
	Configure func(s *System, c Config)
}

// System is a running Gatehouse.
type System struct {
	// The folder holds gatehouse.yaml, policies/, data/ and logs/.
	*Folder
	// Services behind the gate.
	Orders, Profile, GRPC *Service
	// PublicCA is CAPath, where Options.Configure sets it.
	PublicCA string

	config      atomic.Pointer[Config]
	authorizers int
	telemetries map[string]string // of the authorizers after the first
	transport   *http.Transport
}

// Start starts everything and stops it at the end of the test.
func Start(t testing.TB, o Options) *System {
	t.Helper()
	s := Prepare(t, o)
	for _, name := range s.Parts() {
		s.StartPart(t, name)
	}
	return s
}

// Prepare does all that Start does but starting the parts.
func Prepare(t testing.TB, o Options) *System {
	t.Helper()
	s := &System{Folder: NewFolder(t), telemetries: map[string]string{}, authorizers: max(1, o.Authorizers)}
	s.Orders, s.Profile, s.GRPC = StartService(t, "orders"), StartService(t, "profile"), StartGRPC(t, "grpc")
	config := s.defaultConfig(t)
	config.Set("controlplane.authz", s.authzSockets())
	s.WritePolicy(t, "orders/approve.rego", approvePolicy)
	if o.Configure != nil {
		o.Configure(s, config)
	}
	s.config.Store(&config)
	s.writeConfigs(t)
	s.CLI(t, "init", s.Dir)
	s.trustCA(t)
	return s
}

// Parts are the names of the processes in the order of their start.
func (s *System) Parts() []string {
	parts := []string{Issuer, ControlPlane}
	if s.written().Get("ratelimit") != nil {
		parts = append(parts, RateLimit)
	}
	for i := range s.authorizers {
		parts = append(parts, AuthzName(i))
	}
	return append(parts, Envoy)
}

// AuthzName is the name of the authorizer with an index from 0.
func AuthzName(i int) string {
	if i == 0 {
		return Authz
	}
	return fmt.Sprintf("%s-%d", Authz, i+1)
}

func (s *System) authzSockets() (sockets []string) {
	for i := range s.authorizers {
		sockets = append(sockets, "unix:run/"+AuthzName(i)+".sock")
	}
	return sockets
}

// authzAddress is where an authorizer listens: controlplane.authz has them all.
func (s *System) authzAddress(i int) string {
	if addresses, ok := s.written().Get("controlplane.authz").([]string); ok && i < len(addresses) {
		return addresses[i]
	}
	return s.authzSockets()[i]
}

// TokenPath is where a part that enrols looks for its join token.
func (s *System) TokenPath(name string) string { return filepath.Join(s.Dir, "data", name+".join") }

// Socket is the path of a Unix socket of the data folder.
func (s *System) Socket(name string) string {
	return filepath.Join(s.Dir, "data", "run", name+".sock")
}

// ConfigPath is the configuration file of a process: each authorizer after the
// first has one of its own.
func (s *System) ConfigPath(name string) string {
	if strings.HasPrefix(name, Authz+"-") {
		return filepath.Join(s.Dir, name+".yaml")
	}
	return filepath.Join(s.Dir, "gatehouse.yaml")
}

// writeConfigs writes the file of every process.
func (s *System) writeConfigs(t testing.TB) {
	t.Helper()
	writeFile(t, s.ConfigPath(""), s.written().YAML())
	for i := range s.authorizers {
		if i == 0 {
			continue
		}
		own := s.Config()
		own.Set("authz.listen", s.authzAddress(i))
		own.Set("authz.telemetry", s.telemetry(t, AuthzName(i)))
		if own.Get("authz.identity.enrol") != nil {
			own.Set("authz.identity.state", filepath.Join(s.Dir, "data", "identity", AuthzName(i)))
			own.Set("authz.identity.join_token", s.TokenPath(AuthzName(i)))
		}
		writeFile(t, s.ConfigPath(AuthzName(i)), own.YAML())
	}
}

// telemetry is the address of a process's telemetry listener.
func (s *System) telemetry(t testing.TB, name string) string {
	if !strings.HasPrefix(name, Authz+"-") {
		return s.written().Text(name + ".telemetry")
	}
	if s.telemetries[name] == "" {
		s.telemetries[name] = FreeAddress(t)
	}
	return s.telemetries[name]
}

// Config is a copy of the configuration as it was last written.
func (s *System) Config() Config { return s.written().clone() }

// written is the configuration as it was last written; nobody changes it.
func (s *System) written() Config { return *s.config.Load() }

// Edit changes gatehouse.yaml, as an operator would while everything runs.
func (s *System) Edit(t testing.TB, change func(Config)) {
	t.Helper()
	next := s.Config()
	change(next)
	s.Write(t, next)
}

// Write replaces gatehouse.yaml.
func (s *System) Write(t testing.TB, next Config) {
	t.Helper()
	s.config.Store(&next)
	writeFile(t, s.ConfigPath(""), next.YAML())
}

// URL is an address at the gate.
func (s *System) URL(path string) string { return s.written().Text("gateway.public_url") + path }

// Gateway is the host:port of the gate's listener.
func (s *System) Gateway() string { return s.written().Text("gateway.listen") }

func (s *System) trustCA(t testing.TB) {
	t.Helper()
	s.transport = &http.Transport{TLSClientConfig: s.TLS(t), ForceAttemptHTTP2: true}
	t.Cleanup(s.transport.CloseIdleConnections)
}

// CAPath is the certificate of the CA that the gate's own certificate is by: the
// development CA, as a rule.
func (s *System) CAPath() string {
	if s.PublicCA != "" {
		return s.PublicCA
	}
	return filepath.Join(s.Dir, "data", "ca", "ca.crt")
}

// TLS trusts the CA of CAPath.
func (s *System) TLS(t testing.TB) *tls.Config {
	t.Helper()
	return Trust(t, s.CAPath())
}

// Trust is a client's TLS configuration for localhost under a CA.
func Trust(t testing.TB, caPath string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(caPath)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", caPath)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// StartPart starts a part and waits until it is ready.
func (s *System) StartPart(t testing.TB, name string) *Process {
	t.Helper()
	p := s.LaunchPart(t, name)
	s.AwaitReady(t, name)
	return p
}

// LaunchPart starts a part and does not wait.
func (s *System) LaunchPart(t testing.TB, name string) *Process {
	t.Helper()
	command, _, _ := strings.Cut(name, "-")
	return s.Launch(t, name, exec.Command(Binary(t), command, "--config", s.ConfigPath(name)))
}

// AwaitReady waits until a part says that it is ready.
func (s *System) AwaitReady(t testing.TB, name string) {
	t.Helper()
	if err := Try(startTime, func() error { return s.ready(t, name) }); err != nil {
		t.Fatalf("%s is not ready: %v\n%s", name, err, tail(s.processes[name].Log()))
	}
}

func (s *System) ready(t testing.TB, name string) error {
	if s.processes[name].Ended() {
		t.Fatalf("%s ended:\n%s", name, tail(s.processes[name].Log()))
	}
	if name == Envoy {
		return expect200("http://" + s.written().Text("envoy.admin") + "/ready")
	}
	return expect200("http://" + s.telemetry(t, name) + "/readyz")
}

// Telemetry is what a part answers at a path of its telemetry listener.
func (s *System) Telemetry(t testing.TB, name, path string) (status int, body string) {
	t.Helper()
	return get(t, "http://"+s.telemetry(t, name)+path)
}

// TryTelemetry is Telemetry where the part may not be there.
func (s *System) TryTelemetry(t testing.TB, name, path string) (status int, body string, err error) {
	return tryGet("http://" + s.telemetry(t, name) + path)
}

func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	status, body, err := tryGet(url)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// Get asks for a URL of this machine.
func Get(url string) (status int, body string, err error) { return tryGet(url) }

func tryGet(url string) (status int, body string, err error) {
	answer, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func expect200(url string) error {
	status, body, err := tryGet(url)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s says %d: %s", url, status, body)
	}
	return err
}
