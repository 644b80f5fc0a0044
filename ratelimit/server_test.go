package ratelimit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

// noon is an injected time.
var noon = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

// world is a running service and a client of it.
type world struct {
	t      *testing.T
	server *Server
	client ratelimitv3.RateLimitServiceClient
	log    *logs

	mu  sync.Mutex
	now time.Time
}

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

func start(t *testing.T, text string) *world {
	t.Helper()
	var config Config
	_, found := conf.Decode([]byte(text+"\nmax_counters: 5000\n"), "/", &config)
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	config.Telemetry = listener.Addr().String()
	config.Listen = "unix:" + filepath.Join(t.TempDir(), "rl.sock")
	config.SetDefaults("/data")
	w := &world{t: t, log: &logs{}, now: noon}
	w.server, err = New(config, Deps{Logger: slog.New(slog.NewTextHandler(w.log, nil)), Now: w.time})
	if err != nil {
		t.Fatal(err)
	}
	if w.server.shared != nil && !strings.Contains(text, "timeout:") {
		w.patient()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx) }()
	conn, err := grpc.NewClient(config.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.client = ratelimitv3.NewRateLimitServiceClient(conn)
	await(t, func() error {
		response, err := http.Get("http://" + config.Telemetry + "/readyz")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	return w
}

// patient waits for Redis longer than the configuration allows: a machine that
// is busy must not look like a Redis that is late.
func (w *world) patient() {
	w.t.Helper()
	w.server.shared.close()
	w.server.config.Redis.Timeout = time.Minute
	if err := w.server.open(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) at(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// descriptor has the entries key, value, key, value, …
func descriptor(entries ...string) *commonv3.RateLimitDescriptor {
	d := &commonv3.RateLimitDescriptor{}
	for i := 0; i < len(entries); i += 2 {
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
	}
	return d
}

func planned(client, subject, plan, roles string) *commonv3.RateLimitDescriptor {
	return descriptor("plan", plan, "roles", roles, "client", client, "subject", subject, "issuer", "https://issuer.example")
}

func limited(l envoy.Limit, value string) *commonv3.RateLimitDescriptor {
	return descriptor("limit", l.String(), l.Entry(), value, "issuer", "https://issuer.example")
}

func (w *world) ask(descriptors ...*commonv3.RateLimitDescriptor) (*ratelimitv3.RateLimitResponse, error) {
	return w.client.ShouldRateLimit(w.t.Context(), &ratelimitv3.RateLimitRequest{Domain: envoy.LimitDomain, Descriptors: descriptors})
}

// allowed tells whether a request fits.
func (w *world) allowed(descriptors ...*commonv3.RateLimitDescriptor) bool {
	w.t.Helper()
	response, err := w.ask(descriptors...)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.GetOverallCode() == ratelimitv3.RateLimitResponse_OK
}

// fit is how many requests fit, of at most 50.
func (w *world) fit(descriptors ...*commonv3.RateLimitDescriptor) (n int) {
	w.t.Helper()
	for n < 50 && w.allowed(descriptors...) {
		n++
	}
	return n
}

func (w *world) telemetry(path string) string {
	w.t.Helper()
	response, err := http.Get("http://" + w.server.config.Telemetry + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

const plans = `
plans:
  free: {limits: [{requests: 3, per: 1m}], daily: 5, monthly: 8}
  pro: {limits: [{requests: 20, per: 1m}], daily: 30}
  person: {by: subject, daily: 2}
  endless: {}
default_plan: free
client_plans: {vip: pro}
role_plans: {"gold, really": pro}
`

func TestPlans(t *testing.T) {
	w := start(t, plans)
	for _, row := range []struct {
		name                         string
		client, subject, plan, roles string
		want                         int
	}{
		{"the default", "a", "usr_1", "-", "-", 3},
		{"an unknown plan is the default", "b", "usr_1", "gold", "-", 3},
		{"by claim", "c", "usr_1", "pro", "-", 20},
		{"by role", "d", "usr_1", "-", "other,gold%2C%20really", 20},
		{"the claim before the role", "e", "usr_1", "free", "gold%2C%20really", 3},
		{"by client, before the claim", "vip", "usr_1", "free", "-", 20},
		{"by subject", "f", "usr_2", "person", "-", 2},
		{"by subject, through another client", "g", "usr_2", "person", "-", 0},
		{"without limits", "h", "usr_3", "endless", "-", 50},
		{"a name that looks like a key", "a/https%3A%2F%2Fissuer.example", "usr_1", "-", "-", 3},
	} {
		if got := w.fit(planned(row.client, row.subject, row.plan, row.roles)); got != row.want {
			t.Errorf("%s: %d fit, want %d", row.name, got, row.want)
		}
	}
}

// Days and months are those of UTC.
func TestQuotas(t *testing.T) {
	w := start(t, plans)
	use := func() int {
		total := 0
		for range 4 {
			total += w.fit(planned("a", "a", "-", "-"))
			w.at(w.time().Add(2 * time.Minute)) // the bucket is empty again
		}
		return total
	}
	w.at(time.Date(2026, 2, 27, 23, 30, 0, 0, time.FixedZone("east", 7200))) // 21:30 UTC
	if got := use(); got != 5 {
		t.Errorf("the first day: %d, want 5", got)
	}
	w.at(time.Date(2026, 2, 27, 23, 59, 59, 0, time.UTC))
	if got := w.fit(planned("a", "a", "-", "-")); got != 0 {
		t.Errorf("the first day's last second: %d, want 0", got)
	}
	w.at(time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC))
	if got := use(); got != 3 {
		t.Errorf("the second day, with the month's 8: %d, want 3", got)
	}
	w.at(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	if got := use(); got != 5 {
		t.Errorf("the next month: %d, want 5", got)
	}
}

// What a caller is told (draft-ietf-httpapi-ratelimit-headers-10 §3, §4; RFC
// 9110 §10.2.3).
func TestHeaders(t *testing.T) {
	w := start(t, plans)
	limit := envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 60, Burst: 2, Per: time.Minute}
	of := func(response *ratelimitv3.RateLimitResponse) map[string]string {
		all := map[string]string{}
		for _, h := range response.GetResponseHeadersToAdd() {
			all[h.GetKey()] = h.GetValue()
		}
		return all
	}
	for i, want := range []map[string]string{
		{
			"ratelimit-policy":  `"shared-client-60s";q=2;w=2, "free-60s";q=3;w=60, "free-day";q=5;w=86400, "free-month";q=8;w=2419200`,
			"ratelimit":         `"shared-client-60s";r=1;t=1, "free-60s";r=2;t=20, "free-day";r=4;t=43200, "free-month";r=7;t=43200`,
			"x-ratelimit-limit": "2", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1",
		},
		{
			"ratelimit-policy":  `"shared-client-60s";q=2;w=2, "free-60s";q=3;w=60, "free-day";q=5;w=86400, "free-month";q=8;w=2419200`,
			"ratelimit":         `"shared-client-60s";r=0;t=2, "free-60s";r=1;t=40, "free-day";r=3;t=43200, "free-month";r=6;t=43200`,
			"x-ratelimit-limit": "2", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2",
		},
		{
			"ratelimit-policy":  `"shared-client-60s";q=2;w=2, "free-60s";q=3;w=60, "free-day";q=5;w=86400, "free-month";q=8;w=2419200`,
			"ratelimit":         `"shared-client-60s";r=0;t=2, "free-60s";r=1;t=40, "free-day";r=3;t=43200, "free-month";r=6;t=43200`,
			"x-ratelimit-limit": "2", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2", "retry-after": "1",
		},
	} {
		response, err := w.ask(limited(limit, "a"), planned("a", "a", "-", "-"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, of(response)); diff != "" {
			t.Errorf("request %d (-want +got):\n%s", i, diff)
		}
	}
}

// Each limit counts by what it says, in its own scope.
func TestRouteLimits(t *testing.T) {
	w := start(t, "")
	by := func(by, scope string) envoy.Limit {
		return envoy.Limit{By: by, Scope: scope, Requests: 2, Burst: 2, Per: time.Hour}
	}
	for _, row := range []struct {
		name  string
		limit envoy.Limit
		value string
		want  int
	}{
		{"a client", by(envoy.ByClient, "orders"), "a", 2},
		{"it again", by(envoy.ByClient, "orders"), "a", 0},
		{"another", by(envoy.ByClient, "orders"), "b", 2},
		{"on another route", by(envoy.ByClient, "items"), "a", 2},
		{"a subject of the same name", by(envoy.BySubject, "orders"), "a", 2},
		{"a token of the same name", by(envoy.ByToken, "orders"), "a", 2},
		{"an address", by(envoy.ByAddress, envoy.EveryRoute), "192.0.2.1/32", 2},
		{"a route", by(envoy.ByRoute, "orders"), "", 2},
		{"the route again", by(envoy.ByRoute, "orders"), "", 0},
	} {
		if got := w.fit(limited(row.limit, row.value)); got != row.want {
			t.Errorf("%s: %d fit, want %d", row.name, got, row.want)
		}
	}
}

// What is not from the control plane is an error, which Envoy refuses.
func TestUnusableRequests(t *testing.T) {
	w := start(t, "")
	good := envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 2, Burst: 2, Per: time.Hour}
	odd := func(change func(*envoy.Limit)) *commonv3.RateLimitDescriptor {
		l := good
		change(&l)
		return limited(l, "a")
	}
	for name, d := range map[string]*commonv3.RateLimitDescriptor{
		"nothing":              descriptor(),
		"another's descriptor": descriptor("generic_key", "x"),
		"a limit of nobody":    limited(good, ""),
		"a limit by nobody":    descriptor("limit", "weather;orders;1;1000;1", "weather", "a"),
		"too few numbers":      descriptor("limit", "client;orders;1;1000", "client", "a"),
		"no requests":          odd(func(l *envoy.Limit) { l.Requests = 0 }),
		"no burst":             odd(func(l *envoy.Limit) { l.Burst = 0 }),
		"a short time":         odd(func(l *envoy.Limit) { l.Per = time.Millisecond }),
		"too much to count":    odd(func(l *envoy.Limit) { l.Burst = 1_000_000_000_000 }),
		"a plan of nobody":     planned("", "", "-", "-"),
		"a plan, without any":  planned("a", "a", "-", "-"),
	} {
		if response, err := w.ask(d); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v %v", name, response, err)
		}
	}
	if _, err := w.client.ShouldRateLimit(t.Context(), &ratelimitv3.RateLimitRequest{Domain: "other", Descriptors: []*commonv3.RateLimitDescriptor{limited(good, "a")}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another domain: %v", err)
	}
}

func TestGatewaysAlone(t *testing.T) {
	for id, want := range map[string]bool{
		"spiffe://gatehouse.local/gateway/edge":   true,
		"spiffe://gatehouse.local/service/orders": false,
		"spiffe://other.local/gateway/edge":       false,
		"spiffe://gatehouse.local/gateway/":       false,
		"spiffe://gatehouse.local/gateway/edge/x": false,
		"spiffe://gatehouse.local/authz":          false,
		"spiffe://gatehouse.local/issuer":         false,
		"spiffe://gatehouse.local.evil/gateway/x": false,
		"https://gatehouse.local/gateway/edge":    false,
		"":                                        false,
	} {
		if got := isGateway(id, "gatehouse.local"); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
}

func TestUsage(t *testing.T) {
	w := start(t, plans)
	w.fit(planned("a/b", "usr_1", "-", "-"))
	w.fit(planned("c", "usr_1", "person", "-"))
	w.fit(limited(envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 60, Burst: 4, Per: time.Hour}, "a/b"))
	read := func(query string) (found []Usage) {
		if err := json.Unmarshal([]byte(w.telemetry("/usage"+query)), &found); err != nil {
			t.Fatal(err)
		}
		return found
	}
	issuer := "https://issuer.example"
	if diff := cmp.Diff([]Usage{
		{By: "client", Caller: "a/b", Issuer: issuer, Policy: "day", Window: "2026-02-28", Used: 3, Limit: 5},
		{By: "client", Caller: "a/b", Issuer: issuer, Policy: "month", Window: "2026-02", Used: 3, Limit: 8},
		{By: "client", Caller: "a/b", Issuer: issuer, Policy: "orders", Window: "60 in 1h", Used: 4, Limit: 4},
		{By: "client", Caller: "a/b", Issuer: issuer, Policy: "plan free", Window: "3 in 1m", Used: 3, Limit: 3},
	}, read("?client=a/b")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Usage{{By: "subject", Caller: "usr_1", Issuer: issuer, Policy: "day", Window: "2026-02-28", Used: 2, Limit: 2}}, read("?subject=usr_1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found := read("?client=a"); len(found) != 0 {
		t.Errorf("another client's: %v", found)
	}
	w.at(noon.AddDate(0, 1, 0))
	if found := read(""); len(found) != 0 {
		t.Errorf("a month later: %v", found)
	}
}

// Without Redis each service allows its part; it says so once, and goes back
// when Redis is there again.
func TestRedisLost(t *testing.T) {
	redis := startRedis(t)
	w := start(t, fmt.Sprintf("redis: {address: '%s'}\nreplicas: 4", redis.address))
	limit := func(value string) *commonv3.RateLimitDescriptor {
		return limited(envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 8, Burst: 8, Per: time.Hour}, value)
	}
	redis.counters(t)
	if got := w.fit(limit("a")); got != 8 {
		t.Errorf("with Redis: %d fit, want 8", got)
	}
	if ready := w.telemetry("/readyz"); ready != "ready\n" {
		t.Errorf("with Redis: %s", ready)
	}
	redis.kill()
	for _, client := range []string{"a", "b"} {
		if got := w.fit(limit(client)); got != 2 {
			t.Errorf("without Redis, %s: %d fit, want 2", client, got)
		}
	}
	if ready := w.telemetry("/readyz"); !strings.Contains(ready, "ready\ndegraded: Redis is out of reach") {
		t.Errorf("without Redis: %s", ready)
	}
	if text := w.telemetry("/metrics"); !strings.Contains(text, "gatehouse_ratelimit_degraded 1\n") || !strings.Contains(text, "gatehouse_ratelimit_redis_lost_total 1\n") {
		t.Error("the metrics do not say that Redis is lost")
	}
	if n := strings.Count(w.log.String(), "Redis is out of reach"); n != 1 {
		t.Errorf("the log says so %d times:\n%s", n, w.log)
	}
	redis.start(t)
	await(t, func() error {
		if !strings.Contains(w.log.String(), "Redis is back") {
			return fmt.Errorf("Redis is not back:\n%s", w.log)
		}
		return nil
	})
	if got := w.fit(limit("c")); got != 8 {
		t.Errorf("with Redis again: %d fit, want 8", got)
	}
}

// A Redis that answers and takes no writes (full, or a replica) is lost until it
// does, not found again at each ping.
func TestRedisTakesNoWrites(t *testing.T) {
	redis := startRedis(t)
	w := start(t, fmt.Sprintf("redis: {address: '%s'}\nreplicas: 4", redis.address))
	admin := redis.counters(t)
	set := func(memory string) {
		t.Helper()
		if err := admin.client.ConfigSet(t.Context(), "maxmemory", memory).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	if got := w.fit(limited(envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 8, Burst: 8, Per: time.Hour}, "a")); got != 2 {
		t.Errorf("while it is full: %d fit, want 2", got)
	}
	probes := func() (refused int64) {
		text, err := admin.client.Info(t.Context(), "errorstats").Result()
		if err == nil {
			_, line, _ := strings.Cut(text, "errorstat_OOM:count=")
			_, err = fmt.Sscanf(line, "%d", &refused)
		}
		if err != nil {
			t.Fatal(err)
		}
		return refused
	}
	first := probes()
	await(t, func() error {
		if probes() < first+2 {
			return errors.New("it is not asked again")
		}
		return nil
	})
	if strings.Contains(w.log.String(), "Redis is back") {
		t.Errorf("it is back before it takes writes:\n%s", w.log)
	}
	set("0")
	await(t, func() error {
		if !strings.Contains(w.log.String(), "Redis is back") {
			return errors.New("Redis is not back")
		}
		return nil
	})
}

// A Redis that hangs costs one request its timeout, and none its answer.
func TestRedisHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w := start(t, fmt.Sprintf("redis: {address: '%s', timeout: 20ms}", listener.Addr()))
	if got := w.fit(limited(envoy.Limit{By: envoy.ByClient, Scope: "orders", Requests: 8, Burst: 8, Per: time.Hour}, "a")); got != 4 {
		t.Errorf("%d fit, want 4", got)
	}
}

// The password is read from its file and stands nowhere else.
func TestRedisPassword(t *testing.T) {
	redis := startRedis(t, "--requirepass", "correct-horse")
	for password, back := range map[string]bool{"correct-horse": true, "wrong-horse": false} {
		file := filepath.Join(t.TempDir(), "password")
		writeText(t, file, password+"\n")
		w := start(t, fmt.Sprintf("redis: {address: '%s', password_file: '%s'}\nreplicas: 2", redis.address, file))
		limit := limited(envoy.Limit{By: envoy.ByClient, Scope: password, Requests: 8, Burst: 8, Per: time.Hour}, "a")
		w.fit(limit)
		await(t, func() error {
			if got := w.telemetry("/readyz") == "ready\n"; got != back && !strings.Contains(w.log.String(), "Redis is back") {
				return fmt.Errorf("ready: %v, want %v", got, back)
			}
			return nil
		})
		if all := w.log.String() + w.telemetry("/metrics"); strings.Contains(all, "horse") {
			t.Errorf("the password is told: %s", all)
		}
	}
}

func TestConfigViolations(t *testing.T) {
	for _, row := range []struct{ text, keys string }{
		{"listen: unix:a", ""},
		{"listen: 127.0.0.1:1", "listen"},
		{"telemetry: 10.0.0.1:1", "telemetry"},
		{"max_counters: 5", "max_counters"},
		{"replicas: -1", "replicas"},
		{"plans: {free: {}}", "default_plan"},
		{"default_plan: free", "default_plan"},
		{"plans: {Free: {}}\ndefault_plan: Free", "plans.Free"},
		{"plans: {free: {by: address}}\ndefault_plan: free", "plans.free.by"},
		{"plans: {free: {limits: [{requests: 0}]}}\ndefault_plan: free", "plans.free.limits[0]"},
		{"plans: {free: {limits: [{requests: 1, per: 1ms}]}}\ndefault_plan: free", "plans.free.limits[0]"},
		{"plans: {free: {daily: -1}}\ndefault_plan: free", "plans.free.daily"},
		{"client_plans: {a: pro}", "client_plans.a"},
		{"role_plans: {a: pro}", "role_plans.a"},
		{"redis: {}", "redis.address"},
		{"redis: {address: 10.0.0.1:6379}", "redis.address"},
		{"redis: {address: 10.0.0.1:6379, tls: true}", ""},
		{"redis: {address: 127.0.0.1:6379, ca: x}", "redis.ca"},
		{"redis: {address: 127.0.0.1:6379, timeout: 1s}", "redis.timeout"},
	} {
		var config Config
		_, found := conf.Decode([]byte(row.text), "/", &config)
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
		config.SetDefaults("/data")
		var keys []string
		for _, v := range config.Validate() {
			keys = append(keys, v.Key)
		}
		if got := strings.Join(keys, " "); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q", row.text, got, row.keys)
		}
	}
}
