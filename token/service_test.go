package token_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// assertionKeys serves what an authorizer's or sidecar's /assertion-keys does.
type assertionKeys struct {
	*httptest.Server
	keys    atomic.Pointer[[]*tokentest.Key] // nil: down
	fetches atomic.Int32
}

func serveKeys(t testing.TB, keys ...*tokentest.Key) *assertionKeys {
	k := &assertionKeys{}
	k.keys.Store(&keys)
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.fetches.Add(1)
		if keys := k.keys.Load(); keys != nil {
			w.Write(tokentest.JWKS(*keys...))
			return
		}
		http.Error(w, "down", http.StatusServiceUnavailable)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *assertionKeys) become(keys ...*tokentest.Key) { k.keys.Store(&keys) }

func serviceVerifier(t testing.TB, k *assertionKeys, now func() time.Time) *token.ServiceVerifier {
	t.Helper()
	v, err := token.NewServiceVerifier(token.ServiceConfig{Service: testOrders, KeysURL: k.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// signedBy is a good assertion by a key, whatever the forger's own is.
func (f assertionForger) signedBy(key *tokentest.Key) string {
	return key.Sign(tokentest.With(f.head, map[string]any{"kid": key.ID()}), f.body)
}

func ask(h http.Handler, assertions ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil)
	for _, a := range assertions {
		r.Header.Add("Gatehouse-Assertion", a)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func who(w http.ResponseWriter, r *http.Request) {
	a, _ := token.CallerFrom(r.Context())
	io.WriteString(w, a.Subject())
}

func TestServiceHTTP(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	h := serviceVerifier(t, serveKeys(t, f.key), clock.now).HTTP(http.HandlerFunc(who))
	if w := ask(h, f.good()); w.Code != 200 || w.Body.String() != "usr_anna" {
		t.Fatalf("a good one: %d %s", w.Code, w.Body)
	}
	access := tokentest.NewKey("ES256")
	for name, assertions := range map[string][]string{
		"none":                {},
		"two":                 {f.good(), f.good()},
		"two in one":          {f.good() + "," + f.good()},
		"another service's":   {f.claim("aud", "spiffe://gatehouse.local/service/profile")},
		"an access token":     {access.Sign(access.Header(), tokentest.UserClaims(testIssuer, testOrders, testNow))},
		"a foreign issuer's":  {f.claim("iss", "spiffe://evil.local/authz")},
		"of an unknown key":   {f.signedBy(tokentest.NewKey("EdDSA"))},
		"with a space around": {" " + f.good()},
	} {
		w := ask(h, assertions...)
		if w.Code != 401 || w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "spiffe") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestServiceScopes(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	v := serviceVerifier(t, serveKeys(t, f.key), clock.now)
	for scope, want := range map[string]int{"read:orders": 200, "write:orders": 403, "read": 403} {
		if w := ask(v.HTTP(token.RequireScope(http.HandlerFunc(who), scope)), f.good()); w.Code != want {
			t.Errorf("%s: %d", scope, w.Code)
		}
	}
	if w := ask(token.RequireScope(http.HandlerFunc(who)), f.good()); w.Code != 401 {
		t.Errorf("without the verifier in front: %d", w.Code)
	}
}

// TestServiceKeys: keys may come, change and go away; requests never see it
// while there is one that is good.
func TestServiceKeys(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	k := serveKeys(t, f.key)
	k.keys.Store(nil)
	h := serviceVerifier(t, k, clock.now).HTTP(http.HandlerFunc(who))
	expect := func(what string, assertion string, want int) {
		t.Helper()
		if w := ask(h, assertion); w.Code != want {
			t.Errorf("%s: %d, want %d", what, w.Code, want)
		}
	}
	expect("no keys can be had", f.good(), 503)
	k.become(f.key)
	clock.advance(2 * time.Second)
	expect("they come", f.good(), 200)
	next := tokentest.NewKey("EdDSA")
	k.become(f.key, next)
	clock.advance(2 * time.Second)
	expect("a new key's first assertion", f.signedBy(next), 200)
	before := k.fetches.Load()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { expect("an unknown key's", f.signedBy(tokentest.NewKey("EdDSA")), 401) })
	}
	all.Wait()
	if n := k.fetches.Load() - before; n > 10 {
		t.Errorf("100 unknown keys at once led to %d fetches", n)
	}
	k.keys.Store(nil)
	clock.advance(5 * time.Minute)
	fresh := tokentest.With(f.body, map[string]any{
		"iat": clock.now().Unix(), "exp": clock.now().Unix() + 60,
		"tctx": tokentest.With(f.body["tctx"].(map[string]any), map[string]any{"exp": clock.now().Unix() + 600}),
	})
	expect("the keys' server is down", f.key.Sign(f.head, fresh), 200)
	k.become(next)
	clock.advance(2 * time.Minute)
	expect("a key was withdrawn", f.key.Sign(f.head, fresh), 401)
	k.keys.Store(nil)
	clock.advance(11 * time.Minute)
	expect("the keys are too old", f.signedBy(next), 503)
}

// listenAt puts a socket in the place of another, as the next sidecar does.
func listenAt(t *testing.T, path string) net.Listener {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".next", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
	return listener
}

// TestServiceKeysOutliveASidecar: the address is the service's, and whoever
// serves there is asked.
func TestServiceKeysOutliveASidecar(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	dir, err := os.MkdirTemp("", "gk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path, next := filepath.Join(dir, "keys.sock"), tokentest.NewKey("EdDSA")
	sidecar := func(keys ...*tokentest.Key) *http.Server {
		listener, mux := listenAt(t, path), http.NewServeMux()
		mux.HandleFunc("GET /assertion-keys", func(w http.ResponseWriter, _ *http.Request) { w.Write(tokentest.JWKS(keys...)) })
		server := &http.Server{Handler: mux}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		return server
	}
	v, err := token.NewServiceVerifier(token.ServiceConfig{Service: testOrders, KeysURL: "unix:" + path, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	h := v.HTTP(http.HandlerFunc(who))
	if w := ask(h, f.good()); w.Code != 503 {
		t.Errorf("before there is a sidecar: %d", w.Code)
	}
	clock.advance(2 * time.Second)
	first := sidecar(f.key)
	if w := ask(h, f.good()); w.Code != 200 {
		t.Errorf("the first sidecar's key: %d", w.Code)
	}
	sidecar(f.key, next)
	first.Close()
	clock.advance(2 * time.Second)
	if w := ask(h, f.signedBy(next)); w.Code != 200 {
		t.Errorf("a key that the next sidecar alone knows: %d", w.Code)
	}
}

// TestServiceKeyThatJustSigns: a key that began to sign right after the keys were
// fetched, or while they were, is waited for, not refused.
func TestServiceKeyThatJustSigns(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	k := serveKeys(t, f.key)
	h := serviceVerifier(t, k, clock.now).HTTP(http.HandlerFunc(who))
	keys := []*tokentest.Key{f.key}
	for n := range 5 {
		if w := ask(h, f.signedBy(keys[n])); w.Code != 200 {
			t.Fatalf("key %d: %d, just after the keys were fetched", n, w.Code)
		}
		keys = append(keys, tokentest.NewKey("EdDSA"))
		k.become(keys...)
	}

	// The answer of a fetch is on its way when the key comes.
	asked, answer := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(asked)
			<-answer
			w.Write(tokentest.JWKS(f.key))
			return
		}
		w.Write(tokentest.JWKS(keys...))
	}))
	defer slow.Close()
	v, err := token.NewServiceVerifier(token.ServiceConfig{Service: testOrders, KeysURL: slow.URL, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	codes := make(chan int, 2)
	go func() { codes <- ask(v.HTTP(http.HandlerFunc(who)), f.good()).Code }()
	<-asked
	go func() { codes <- ask(v.HTTP(http.HandlerFunc(who)), f.signedBy(keys[1])).Code }()
	close(answer)
	for range 2 {
		if code := <-codes; code != 200 {
			t.Errorf("%d while the keys are fetched", code)
		}
	}
}

func TestServiceConfiguration(t *testing.T) {
	for name, c := range map[string]token.ServiceConfig{
		"no service":                      {KeysURL: "http://127.0.0.1:1/"},
		"another's id":                    {Service: testAuthz, KeysURL: "http://127.0.0.1:1/"},
		"no name":                         {Service: "spiffe://a/service/", KeysURL: "http://127.0.0.1:1/"},
		"no keys":                         {Service: testOrders},
		"keys in clear":                   {Service: testOrders, KeysURL: "http://keys.example/"},
		"skew too long":                   {Service: testOrders, KeysURL: "http://127.0.0.1:1/", Skew: time.Hour},
		"not spiffe":                      {Service: "https://a/service/b", KeysURL: "http://127.0.0.1:1/"},
		"loopback's name":                 {Service: testOrders, KeysURL: "http://localhost.evil.example/"},
		"no socket":                       {Service: testOrders, KeysURL: "unix:"},
		"a socket where we happen to run": {Service: testOrders, KeysURL: "unix:run/keys.sock"},
		"a socket's path too long":        {Service: testOrders, KeysURL: "unix:/" + strings.Repeat("x", 107)},
	} {
		if _, err := token.NewServiceVerifier(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// healthOf asks a gRPC service, with an assertion or without.
func healthOf(ctx context.Context, conn *grpc.ClientConn) (unary, stream error) {
	client := grpc_health_v1.NewHealthClient(conn)
	_, unary = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	return unary, err
}

// startGRPC is a gRPC service behind a verifier; it hands contexts to seen.
func startGRPC(t *testing.T, v *token.ServiceVerifier, seen func(context.Context) error) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(v.Unary, func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := seen(ctx); err != nil {
				return nil, err
			}
			return handle(ctx, r)
		}),
		grpc.ChainStreamInterceptor(v.Stream, func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := seen(stream.Context()); err != nil {
				return err
			}
			return handle(s, stream)
		}),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestServiceGRPC(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	scope := "read:orders"
	at := startGRPC(t, serviceVerifier(t, serveKeys(t, f.key), clock.now), func(ctx context.Context) error { return token.CheckScopes(ctx, scope) })
	conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expect := func(what string, want codes.Code, assertions ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, a := range assertions {
			ctx = metadata.AppendToOutgoingContext(ctx, token.AssertionHeader, a)
		}
		unary, stream := healthOf(ctx, conn)
		if status.Code(unary) != want || status.Code(stream) != want {
			t.Errorf("%s: %v, and %v for a stream, want %s", what, unary, stream, want)
		}
	}
	expect("a good one", codes.OK, f.good())
	expect("none", codes.Unauthenticated)
	expect("two", codes.Unauthenticated, f.good(), f.good())
	expect("another service's", codes.Unauthenticated, f.claim("aud", testEdge))
	scope = "write:orders"
	expect("too little scope", codes.PermissionDenied, f.good())
	if err := token.CheckScopes(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without the verifier in front: %v", err)
	}
}

// TestOutbound: calls carry the caller's assertion to the sidecar, whatever host
// they name, and nothing where there is no caller.
func TestOutbound(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	v := serviceVerifier(t, serveKeys(t, f.key), clock.now)
	var got *http.Request
	sidecar := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer sidecar.Close()
	out, err := token.NewOutbound(sidecar.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	call := func(ctx context.Context, url string) error {
		r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("gatehouse-narrow-scope", "leftover")
		answer, err := out.Client().Do(r)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	ask(v.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := call(r.Context(), "http://profile/x"); err != nil || got.Host != "profile" || got.Header.Get(token.AssertionHeader) != f.good() || got.Header.Get("gatehouse-narrow-scope") != "" {
			t.Errorf("passed on: %v, %+v", err, got)
		}
		if err := call(token.Narrow(r.Context(), "a", "b"), "http://profile/x"); err != nil || got.Header.Get("gatehouse-narrow-scope") != "a b" {
			t.Errorf("narrowed: %v, %+v", err, got.Header)
		}
		if err := call(r.Context(), "https://profile/x"); err == nil {
			t.Error("https went out")
		}
	})), f.good())
	got = nil
	if err := call(t.Context(), "http://profile/x"); err == nil || !strings.Contains(err.Error(), "for nobody") || got != nil {
		t.Errorf("a call for nobody: %v, %+v", err, got)
	}
	if _, err := token.NewOutbound("192.0.2.1:80"); err == nil {
		t.Error("assertions may go to another machine")
	}
}

func TestOutboundGRPC(t *testing.T) {
	f, clock := newAssertionForger(), newClock()
	v := serviceVerifier(t, serveKeys(t, f.key), clock.now)
	var seen metadata.MD
	at := startGRPC(t, v, func(ctx context.Context) error { seen, _ = metadata.FromIncomingContext(ctx); return nil })
	out, err := token.NewOutbound(at)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := out.Dial("profile")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask(v.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := token.Narrow(r.Context(), "a")
		if unary, stream := healthOf(ctx, conn); unary != nil || stream != nil || strings.Join(seen.Get("gatehouse-narrow-scope"), "") != "a" || strings.Join(seen.Get(":authority"), "") != "profile" {
			t.Errorf("passed on: %v, %v, %v", unary, stream, seen)
		}
	})), f.good())
	unary, stream := healthOf(t.Context(), conn)
	if unary == nil || stream == nil || errors.Is(unary, context.Canceled) {
		t.Errorf("a call for nobody: %v, %v", unary, stream)
	}
}
