package authz

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

const teamPolicy = `package orders.approve

allow if "approver" in input.token.roles

reason := "SECRET: approvers only"
`

// world is an authorizer on a Unix socket with a real key set endpoint, a real
// feed and real policies around it.
type world struct {
	testing.TB
	config   Config
	signer   ruleSigner
	keys     *keyServer
	key      *ecdsa.PrivateKey
	feed     *feedServer
	trust    Trust        // nil: alone
	offset   atomic.Int64 // of the authorizer's clock
	logs     logBuffer
	registry *prometheus.Registry
	server   *Server
	conn     *grpc.ClientConn
	client   authv3.AuthorizationClient
	readyz   string
	cancel   func() // begins to stop it
	stop     func()
}

// newWorld makes everything but starts no authorizer.
func newWorld(t testing.TB) *world {
	t.Helper()
	run, err := os.MkdirTemp("", "gh") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	w := &world{TB: t, signer: newRuleSigner(t), keys: newKeyServer(t), registry: prometheus.NewRegistry()}
	w.key = w.keys.newKey(t)
	w.config = Config{
		Listen: "unix:" + run + "/authz.sock", Telemetry: "127.0.0.1:0",
		RuleKeys: []conf.Path{w.signer.file}, Policies: conf.Path(t.TempDir()),
		Issuers: []Issuer{{Issuer: testIssuer, JWKSURL: w.keys.URL, AllowInternal: true, JWKSInterval: time.Second, Feed: "unix:" + run + "/feed.sock"}},
	}
	w.config.SetDefaults(run)
	w.writePolicy("approve.rego", teamPolicy)
	w.feed = startFeed(t, w.config.Issuers[0].Feed)
	return w
}

// startWorld is a world whose authorizer is ready.
func startWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.start()
	w.waitReady()
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) start() {
	w.Helper()
	var err error
	logger := slog.New(slog.NewJSONHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.server, err = New(w.config, Deps{Logger: logger, Registerer: w.registry, Now: w.now, Trust: w.trust}); err != nil {
		w.Fatal(err)
	}
	w.server.grace = 0
	listener, err := serve.Listen(w.config.Listen)
	if err != nil {
		w.Fatal(err)
	}
	telemetry, err := net.Listen("tcp", w.config.Telemetry)
	if err != nil {
		w.Fatal(err)
	}
	w.readyz = "http://" + telemetry.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	done := make(chan error, 1)
	go func() { done <- w.server.serve(ctx, listener, telemetry) }()
	w.stop = sync.OnceFunc(func() {
		w.conn.Close()
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the authorizer ended with %v", err)
		}
	})
	w.Cleanup(w.stop)
	if w.conn, err = grpc.NewClient(w.config.Listen, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		w.Fatal(err)
	}
	w.client = authv3.NewAuthorizationClient(w.conn)
}

func (w *world) waitReady() {
	w.Helper()
	w.eventually("ready", func() bool { return len(w.server.Missing()) == 0 })
}

// eventually waits for a condition, and fails after a while.
func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			w.Fatalf("not %s after 10 s; missing: %q; log:\n%s", what, w.server.Missing(), w.logs.String())
		case <-tick.C:
		}
	}
}

func (w *world) writePolicy(name, text string) {
	w.Helper()
	file := filepath.Join(string(w.config.Policies), name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

// rule signs ordersRule after edits.
func (w *world) rule(edits ...func(*rulev1.Rule)) string {
	w.Helper()
	r := ordersRule()
	for _, edit := range edits {
		edit(r)
	}
	return w.signer.sign(w, r)
}

// person mints a person's token of now.
func (w *world) person() string { return mint(w, w.key, personClaims(w.now())) }

// checkOf carries a rule and a bearer token.
func checkOf(rule, bearer string, headers ...string) *authv3.CheckRequest {
	if bearer != "" {
		headers = append(headers, "authorization", "Bearer "+bearer)
	}
	in := rawRequest("/orders?limit=5", headers...)
	in.Attributes.ContextExtensions = map[string]string{envoy.RuleExtension: rule}
	return in
}

// check asks over the socket, as Envoy does.
func (w *world) check(in *authv3.CheckRequest) *authv3.CheckResponse {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	response, err := w.client.Check(ctx, in)
	if err != nil {
		w.Fatalf("Check: %v", err)
	}
	return response
}

// verdict is the status that the client would see, and the reason.
func (w *world) verdict(in *authv3.CheckRequest) (status int, reason Reason) {
	w.Helper()
	response := w.check(in)
	reason = Reason(response.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
	if response.GetOkResponse() != nil && response.GetStatus().GetCode() == 0 {
		return 200, reason
	}
	return int(response.GetDeniedResponse().GetStatus().GetCode()), reason
}

// expect checks one verdict.
func (w *world) expect(in *authv3.CheckRequest, status int, reason Reason) {
	w.Helper()
	if gotStatus, gotReason := w.verdict(in); gotStatus != status || gotReason != reason {
		w.Errorf("got %d %s, want %d %s; log:\n%s", gotStatus, gotReason, status, reason, w.logs.last())
	}
}

// figure is the value of a counter with these label values, in the order of
// their names.
func (w *world) figure(name string, labels ...string) float64 {
	w.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(values, labels) {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// last is the last line.
func (l *logBuffer) last() string {
	lines := bytes.Split(bytes.TrimSpace([]byte(l.String())), []byte("\n"))
	return string(lines[len(lines)-1])
}
