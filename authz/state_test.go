package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
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

// TestRevokedTokens: every kind, of a token that was seen and of a new one, is
// refused within a second.
func TestRevokedTokens(t *testing.T) {
	for kind := revocationv1.Kind_KIND_TOKEN; kind <= revocationv1.Kind_KIND_CLIENT; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			w := startWorld(t)
			claims := personClaims(w.now())
			id := map[revocationv1.Kind]string{
				revocationv1.Kind_KIND_TOKEN: claims["jti"].(string), revocationv1.Kind_KIND_SESSION: "sid-1",
				revocationv1.Kind_KIND_GRANT: "grant-1", revocationv1.Kind_KIND_KEY: kidOf(w.key),
				revocationv1.Kind_KIND_SUBJECT: "usr_ada", revocationv1.Kind_KIND_CLIENT: "shop",
			}[kind]
			token := mint(t, w.key, claims)
			w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
			started := time.Now()
			w.feed.revoke(kind, id, claims["iat"].(int64))
			w.eventually("refused", func() bool {
				code, _ := w.verdict(checkOf(w.rule(), token))
				return code == 401
			})
			if took := time.Since(started); took > time.Second {
				t.Errorf("it took %s", took)
			}
			if kind != revocationv1.Kind_KIND_KEY { // whose tokens have no key any more
				w.expect(checkOf(w.rule(), token), 401, ReasonRevoked)
			}
			if code, _ := w.verdict(checkOf(w.rule(), mint(t, w.key, claims))); code != 401 {
				t.Errorf("a new token of the same claims: %d", code)
			}
			other := claims.with("jti", "other").with("sid", "other").with("grant_id", "other").
				with("sub", "usr_other").with("client_id", "other").with("iat", claims["iat"].(int64)+1)
			if code, _ := w.verdict(checkOf(w.rule(), mint(t, w.keys.newKey(t), other))); kind != revocationv1.Kind_KIND_KEY && code != 401 {
				t.Errorf("a token of a key that nobody fetched: %d", code)
			}
			if kind != revocationv1.Kind_KIND_KEY {
				w.expect(checkOf(w.rule(), mint(t, w.key, other)), 200, ReasonAllowed)
			}
		})
	}
}

// TestStaleRevocations: when the issuer goes, each route goes on for as long as
// its own revocation_max_age, and all are back within a second of its return.
func TestStaleRevocations(t *testing.T) {
	w := startWorld(t)
	token := w.person()
	short := w.rule(func(r *rulev1.Rule) { r.RevocationMaxAgeMs = 500 })
	w.expect(checkOf(short, token), 200, ReasonAllowed)
	w.feed.stop()
	w.eventually("stale", func() bool {
		_, reason := w.verdict(checkOf(short, token))
		return reason == ReasonRevocationStale
	})
	w.expect(checkOf(short, token), 503, ReasonRevocationStale)
	w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
	if got := w.health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %s: other routes go on", got)
	}
	// What was revoked meanwhile counts as soon as the feed is back.
	w.feed.revoke(revocationv1.Kind_KIND_TOKEN, "elsewhere", 0)
	w.feed.start(w)
	started := time.Now()
	w.eventually("current", func() bool {
		code, _ := w.verdict(checkOf(short, token))
		return code == 200
	})
	if took := time.Since(started); took > time.Second {
		t.Errorf("recovery took %s", took)
	}
	requests := w.feed.requests()
	if last := requests[len(requests)-1]; last.GetEpoch() != "epoch-1" || last.GetAfterSequence() != 0 {
		t.Errorf("resumed with %v", last)
	}
}

// TestFeedFaults: after a gap or in a new epoch the state is fetched anew, and
// nothing that was revoked is missed.
func TestFeedFaults(t *testing.T) {
	for name, fault := range map[string]func(*feedServer){
		"a gap": func(f *feedServer) {
			f.change(func() { f.skip = 1 })
			f.revoke(revocationv1.Kind_KIND_TOKEN, "first", 0)
			f.change(func() {
				f.log = append(f.log,
					numbered(uint64(len(f.log)+1), revocationv1.Kind_KIND_TOKEN, "lost"),
					numbered(uint64(len(f.log)+2), revocationv1.Kind_KIND_SESSION, "sid-1"))
				f.log[len(f.log)-1].ExpiresAt = 0
			})
		},
		"another epoch": func(f *feedServer) {
			f.change(func() { f.epoch = "epoch-2"; f.log = nil })
			f.revoke(revocationv1.Kind_KIND_SESSION, "sid-1", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t)
			token := w.person()
			w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
			fault(w.feed)
			w.eventually("refused", func() bool {
				_, reason := w.verdict(checkOf(w.rule(), token))
				return reason == ReasonRevoked
			})
			requests := w.feed.requests()
			if last := requests[len(requests)-1]; len(requests) < 2 || last.GetEpoch() != "" {
				t.Errorf("it did not start over: %v", requests)
			}
		})
	}
}

// TestNewKey: a key that is not known yet is refused, asked for, and taken.
func TestNewKey(t *testing.T) {
	w := startWorld(t)
	fetches := w.keys.fetches.Load()
	token := mint(t, w.keys.newKey(t), personClaims(w.now()))
	w.expect(checkOf(w.rule(), token), 401, ReasonUnknownKey)
	w.eventually("taken", func() bool {
		code, _ := w.verdict(checkOf(w.rule(), token))
		return code == 200
	})
	if w.keys.fetches.Load() == fetches {
		t.Error("no key set was fetched")
	}
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
}

func TestCallers(t *testing.T) {
	w := newWorld(t)
	w.start()
	over := func(uris ...string) context.Context {
		leaf := &x509.Certificate{}
		for _, uri := range uris {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			leaf.URIs = append(leaf.URIs, u)
		}
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{}, AuthInfo: credentials.TLSInfo{
			State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}},
		}})
	}
	handled := func(ctx context.Context) bool {
		called := false
		_, err := w.server.intercept(ctx, nil, nil, func(context.Context, any) (any, error) { called = true; return nil, nil })
		return called && err == nil
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
		want bool
	}{
		{"the Unix socket", localContext(), true},
		{"the edge over mTLS", over(testNode), true},
		{"another gateway", over("spiffe://gatehouse.local/gateway/inner"), true},
		{"a service", over("spiffe://gatehouse.local/service/orders"), false},
		{"the issuer", over("spiffe://gatehouse.local/issuer"), false},
		{"another trust domain", over("spiffe://evil.local/gateway/edge"), false},
		{"a longer trust domain", over("spiffe://gatehouse.local.evil/gateway/edge"), false},
		{"no name", over("spiffe://gatehouse.local/gateway/"), false},
		{"two identities", over(testNode, "spiffe://gatehouse.local/issuer"), false},
		{"no identity", over(), false},
		{"plain TCP", peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{}}), false},
		{"nobody", t.Context(), false},
	} {
		if got := handled(c.ctx); got != c.want {
			t.Errorf("%s: handled %t", c.name, got)
		}
	}
	if got, _ := w.server.Check(t.Context(), checkOf(w.rule(), w.person())); got.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("Check itself admits nobody: %v", got)
	}
}

func TestInterceptSurvivesAPanic(t *testing.T) {
	w := newWorld(t)
	w.start()
	_, err := w.server.intercept(localContext(), nil, nil, func(context.Context, any) (any, error) { panic("x") })
	if status.Code(err) != codes.Internal || w.figure("gatehouse_authz_panics_total") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestCheckIsBounded(t *testing.T) {
	w := startWorld(t)
	_, err := w.client.Check(t.Context(), checkOf(w.rule(), "", "x-long", strings.Repeat("a", maxCheck)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
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

var _ authv3.AuthorizationServer = (*Server)(nil)
