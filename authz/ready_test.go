package authz

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// localContext is that of a call over the Unix socket.
func localContext() context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.UnixAddr{Net: "unix", Name: "@"}})
}

// TestNotReady: whatever is missing, nobody passes, with a token or without,
// and both health answers say so.
func TestNotReady(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(*world)
		reason  Reason
		missing string
		mend    func(*world)
	}{
		{"no key set", func(w *world) { w.keys.refuse(true) }, ReasonKeysMissing, "no key set of", func(w *world) { w.keys.refuse(false) }},
		{"no feed", func(w *world) { w.feed.stop() }, ReasonRevocationMissing, "no complete snapshot", func(w *world) { w.feed.start(w) }},
		{"half a snapshot", func(w *world) { w.feed.change(func() { w.feed.partial = true }) }, ReasonRevocationMissing, "no complete snapshot", nil},
		{"no heartbeat", func(w *world) { w.feed.change(func() { w.feed.mute = true }) }, ReasonRevocationMissing, "no heartbeat", func(w *world) { w.feed.change(func() { w.feed.mute = false }) }},
		{"the issuer's clock ahead", func(w *world) { w.feed.change(func() { w.feed.offset = time.Minute }) }, ReasonClock, "clock differs", func(w *world) { w.feed.change(func() { w.feed.offset = 0 }) }},
		{"the issuer's clock behind", func(w *world) { w.feed.change(func() { w.feed.offset = -6 * time.Second }) }, ReasonClock, "clock differs", func(w *world) { w.feed.change(func() { w.feed.offset = 0 }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.edit(w)
			w.start()
			w.eventually("missing "+c.missing, func() bool { return strings.Contains(strings.Join(w.server.Missing(), "\n"), c.missing) })
			if !strings.Contains(c.missing, "key set") {
				w.eventually("left with that alone", func() bool {
					_, reason := w.verdict(checkOf(w.rule(), w.person()))
					return reason == c.reason
				})
			}
			w.expect(checkOf(w.rule(), w.person()), 503, c.reason)
			w.expect(checkOf(w.rule(), ""), 503, c.reason)
			if got := w.health(); got != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health is %s", got)
			}
			if code, body := w.ready(); code != 503 || !strings.Contains(body, c.missing) || !strings.Contains(body, testIssuer) {
				t.Errorf("/readyz says %d %s", code, body)
			}
			if c.mend == nil {
				return
			}
			c.mend(w)
			w.waitReady()
			w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
			if got := w.health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("health is %s", got)
			}
			if code, _ := w.ready(); code != 200 {
				t.Errorf("/readyz says %d", code)
			}
		})
	}
}

func (w *world) health() grpc_health_v1.HealthCheckResponse_ServingStatus {
	w.Helper()
	got, err := grpc_health_v1.NewHealthClient(w.conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		w.Fatal(err)
	}
	return got.GetStatus()
}

func (w *world) ready() (code int, body string) {
	w.Helper()
	response, err := http.Get(w.readyz + "/readyz")
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestHealthKnowsItsServices(t *testing.T) {
	w := startWorld(t)
	client := grpc_health_v1.NewHealthClient(w.conn)
	for service, want := range map[string]codes.Code{"": codes.OK, "envoy.service.auth.v3.Authorization": codes.OK, "other": codes.NotFound} {
		if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service}); status.Code(err) != want {
			t.Errorf("%q: %v", service, err)
		}
	}
}

// TestOneBrokenIssuer denies its own tokens and nobody else's.
func TestOneBrokenIssuer(t *testing.T) {
	w := newWorld(t)
	broken := w.config.Issuers[0]
	broken.Issuer = "https://broken.example"
	broken.Feed += ".none"
	w.config.Issuers = append(w.config.Issuers, broken)
	w.start()
	w.eventually("left with the broken one alone", func() bool { return len(w.server.Missing()) == 1 })
	either := w.rule(func(r *rulev1.Rule) { r.Issuers = []string{"https://broken.example", testIssuer} })
	w.expect(checkOf(either, w.person()), 200, ReasonAllowed)
	w.expect(checkOf(either, ""), 401, ReasonNoCredential)
	theirs := mint(t, w.key, personClaims(w.now()).with("iss", "https://broken.example"))
	w.expect(checkOf(either, theirs), 503, ReasonRevocationMissing)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Issuers = []string{"https://broken.example"} }), ""), 503, ReasonRevocationMissing)
}

// TestMetrics: the figures of the state are served.
func TestMetrics(t *testing.T) {
	w := startWorld(t)
	w.feed.revoke(revocationv1.Kind_KIND_TOKEN, "x", 0)
	w.eventually("applied", func() bool {
		return strings.Contains(w.metrics(), `gatehouse_authz_revocations{issuer="https://issuer.example"} 1`)
	})
	w.check(checkOf(w.rule(), w.person()))
	text := w.metrics()
	for _, want := range []string{
		"gatehouse_authz_ready 1", "gatehouse_authz_rules 1", "gatehouse_authz_feed_age_seconds{", "gatehouse_authz_decision_seconds_count 1",
		`gatehouse_authz_decisions_total{reason="allowed",verdict="allowed"} 1`, `gatehouse_authz_token_cache_total{result="miss"} 1`, "gatehouse_authz_panics_total 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func (w *world) metrics() string {
	w.Helper()
	response, err := http.Get(w.readyz + "/metrics")
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// TestRunDrains: once Run has returned, nothing listens any more, and it can be
// started again on the same socket.
func TestRunDrains(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		server, err := New(w.config, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		w.server = server
		w.eventually("ready", func() bool { return len(server.Missing()) == 0 })
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if missing := server.Missing(); len(missing) == 0 {
			t.Error("a server that has drained says it is ready")
		}
		if _, err := net.Dial("unix", strings.TrimPrefix(w.config.Listen, "unix:")); err == nil {
			t.Error("the socket still answers")
		}
	}
}
