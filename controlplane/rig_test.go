package controlplane

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

// rig is a real Envoy between a client and services, with a control plane and a
// stub authorizer behind it.
type rig struct {
	dir       string
	gateway   Gateway
	config    Config
	authz     *stubAuthz
	server    *Server
	stop      func() // stops the control plane
	atOnce    bool   // publishes without order
	denyList  DenyList
	client    *http.Client
	http1     *http.Client
	admin     string
	envoyLog  *logBook
	accessLog *logBook
}

type envoyConfig = envoy.Config

// newRig starts everything with a gateway; text is its YAML, in which
// {orders}, {site} and so on stand for services' URLs.
func newRig(t *testing.T, gateway string, options ...func(*rig, *envoyConfig)) *rig {
	t.Helper()
	r := prepareRig(t, gateway, options...)
	await(t, "Envoy to take its first configuration", r.taken)
	return r
}

// prepareRig is newRig that does not wait for Envoy.
func prepareRig(t *testing.T, gateway string, options ...func(*rig, *envoyConfig)) *rig {
	t.Helper()
	dir := shortDir(t)
	r := &rig{dir: dir, envoyLog: &logBook{}, accessLog: &logBook{}}
	r.authz = startStubAuthz(t, "unix:"+filepath.Join(dir, "authz.sock"))
	r.config = Config{Listen: "unix:" + filepath.Join(dir, "xds.sock"), Telemetry: freeAddress(t), Authz: []string{r.authz.address}, RuleKey: writeRuleKey(t, dir)}
	edge := envoy.Config{Admin: freeAddress(t), XDS: r.config.Listen, Concurrency: 2, Path: conf.Path(realEnvoy(t))}
	r.gateway = r.parse(t, gateway)
	for _, option := range options {
		option(r, &edge)
	}
	r.config.SetDefaults(dir)
	edge.SetDefaults(dir)
	r.admin = edge.Admin
	r.client, r.http1 = edgeClient(t, true), edgeClient(t, false)
	r.startControlPlane(t)
	r.startEnvoy(t, edge)
	return r
}

// parse is a gateway on free ports, with the test's certificate.
func (r *rig) parse(t *testing.T, text string) Gateway {
	t.Helper()
	g := readGateway(t, text)
	if r.gateway.Listen != "" {
		g.Listen, g.RedirectListen = r.gateway.Listen, r.gateway.RedirectListen
	} else {
		g.Listen, g.RedirectListen = freeAddress(t), freeAddress(t)
	}
	g.PublicURL = "https://" + g.Listen
	g.TLS = TLS{Certificate: "testdata/edge.crt", Key: "testdata/edge.key"}
	return g
}

func (r *rig) startControlPlane(t *testing.T) {
	t.Helper()
	server, err := New(r.config, r.gateway, Deps{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), DenyList: r.denyList})
	if err != nil {
		t.Fatal(err)
	}
	r.server, server.atOnce = server, r.atOnce
	r.stop = inBackground(t, server.Run)
}

func (r *rig) startEnvoy(t *testing.T, config envoy.Config) {
	t.Helper()
	process, err := envoy.New(config, slog.New(r.envoyLog))
	if err != nil {
		t.Fatal(err)
	}
	process.AccessLog = r.accessLog
	startAgent(t, config)
	stop := inBackground(t, process.Run)
	// Envoy waits for its clients to leave, so they leave first.
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.http1.CloseIdleConnections()
		stop()
	})
}

// taken tells whether every Envoy has what was last published.
func (r *rig) taken() error {
	status := r.server.Status().Groups[envoy.EdgeGroup]
	if !status.Taken || len(status.Nodes) == 0 {
		return fmt.Errorf("status %+v; Envoy says %s", status, r.envoyLog.last())
	}
	return nil
}

func (r *rig) status(t *testing.T) GroupStatus {
	t.Helper()
	return r.server.Status().Groups[envoy.EdgeGroup]
}

func (r *rig) metrics(t *testing.T) string { return r.telemetry(t, "/metrics") }

func (r *rig) telemetry(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get("http://" + r.config.Telemetry + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// apply publishes an edit and waits until it is live.
func (r *rig) apply(t *testing.T, g Gateway) {
	t.Helper()
	if err := r.server.Apply(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	r.gateway = g
	await(t, "the edit to be live", r.taken)
}

func (r *rig) url(path string) string { return "https://" + r.gateway.Listen + path }

// get asks for a path over HTTP/1.1, as spelled.
func (r *rig) get(t *testing.T, path string, headers ...string) (status int, body string) {
	t.Helper()
	response, body := r.ask(t, r.http1, http.MethodGet, path, headers...)
	return response.StatusCode, body
}

func (r *rig) ask(t *testing.T, client *http.Client, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url("/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = path // not normalised on its way out
	for i := 0; i < len(headers); i += 2 {
		request.Header[headers[i]] = append(request.Header[headers[i]], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}
