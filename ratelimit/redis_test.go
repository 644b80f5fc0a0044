package ratelimit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// redisServer is a real Redis on a Unix socket of its own.
type redisServer struct {
	address string
	command *exec.Cmd
	args    []string
}

func startRedis(t testing.TB, extra ...string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing: install it (Debian: apt-get install redis-server)")
	}
	socket := filepath.Join(t.TempDir(), "redis.sock")
	r := &redisServer{address: "unix:" + socket, args: append([]string{path,
		"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", filepath.Dir(socket)}, extra...)}
	r.start(t)
	t.Cleanup(func() { r.kill() })
	return r
}

func (r *redisServer) start(t testing.TB) {
	t.Helper()
	r.command = exec.Command(r.args[0], r.args[1:]...)
	r.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
}

func (r *redisServer) kill() {
	r.command.Process.Kill()
	r.command.Wait()
}

func (r *redisServer) counters(t testing.TB) *Shared {
	t.Helper()
	s, err := NewShared(Redis{Address: r.address, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	await(t, func() error { return s.ping(t.Context()) })
	return s
}

// A Redis that does not let us read counts nothing: that is a failure, not an
// empty counter.
func TestRedisMustBeReadable(t *testing.T) {
	counters := startRedis(t).counters(t)
	allow := func(what string) {
		t.Helper()
		if err := counters.client.Do(t.Context(), "ACL", "SETUSER", "default", what).Err(); err != nil {
			t.Fatal(err)
		}
	}
	demand := []Demand{{Key: "unread", Name: "n", Limit: 3, Requests: 3, Per: time.Hour}}
	allow("-get")
	if outcomes, err := counters.Take(t.Context(), time.Now(), demand); err == nil {
		t.Errorf("counted what could not be read: %+v", outcomes)
	}
	if err := counters.ping(t.Context()); err == nil {
		t.Error("Redis is taken for one that counts")
	}
	allow("+get")
	if _, err := counters.Take(t.Context(), time.Now(), demand); err != nil {
		t.Error(err)
	}
}

// What stands at one of our keys and cannot be ours costs that counter what it
// held, and nobody else anything: neither an answer nor Redis.
func TestRedisHoldsWhatIsNotOurs(t *testing.T) {
	redis := startRedis(t)
	counters := redis.counters(t)
	now := time.Now()
	bucket := func(key string) Demand {
		return Demand{Key: key, Name: "n", Limit: 3, Requests: 3, Per: time.Hour}
	}
	quota := func(key string) Demand {
		return Demand{Key: key, Name: "n", Limit: 3, Begin: now, End: now.Add(time.Hour)}
	}
	far := strconv.FormatInt(now.AddDate(10, 0, 0).UnixMicro(), 10)
	spoiled := map[string]func(key string) []any{
		"a list":           func(key string) []any { return []any{"RPUSH", key, "x"} },
		"a hash":           func(key string) []any { return []any{"HSET", key, "x", "y"} },
		"a word":           func(key string) []any { return []any{"SET", key, "spoiled"} },
		"nothing":          func(key string) []any { return []any{"SET", key, ""} },
		"no numbers":       func(key string) []any { return []any{"SET", key, "nan nan"} },
		"one number":       func(key string) []any { return []any{"SET", key, "7"} },
		"an endless one":   func(key string) []any { return []any{"SET", key, strings.Repeat("9", 400) + " 1"} },
		"more than fits":   func(key string) []any { return []any{"SET", key, "99999999999999999999 1"} },
		"more than exact":  func(key string) []any { return []any{"SET", key, "9999999999999999 1"} },
		"a far future":     func(key string) []any { return []any{"SET", key, "10800000000 " + far} },
		"numbers of Lua's": func(key string) []any { return []any{"SET", key, "1e3 0x10"} },
	}
	for name, spoil := range spoiled {
		t.Run(name, func(t *testing.T) {
			for kind, demand := range map[string]Demand{"bucket": bucket(name), "quota": quota(name + " day")} {
				if err := counters.client.Do(t.Context(), spoil(keyPrefix+demand.Key)...).Err(); err != nil {
					t.Fatal(err)
				}
				if kind == "quota" && name == "a far future" {
					continue // the second number of a quota is another thing
				}
				fit := 0
				for range 4 {
					outcomes, err := counters.Take(t.Context(), now, []Demand{demand, bucket("beside " + name + kind)})
					if err != nil {
						t.Fatalf("%s: %v", kind, err)
					}
					if fits(outcomes) {
						fit++
					}
				}
				if fit != 3 {
					t.Errorf("%s: %d fit, want 3", kind, fit)
				}
			}
		})
		if err := counters.client.Do(t.Context(), spoil(keyPrefix+name+" unlisted")...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := counters.List(t.Context(), now, "", 1000); err != nil {
		t.Errorf("listing: %v", err)
	}
	// A level above what fits flows off as if it were full.
	full := bucket("full")
	if err := counters.client.Set(t.Context(), keyPrefix+full.Key, fmt.Sprintf("%d %d", full.capacity()*9, now.UnixMicro()), 0).Err(); err != nil {
		t.Fatal(err)
	}
	outcomes, err := counters.Take(t.Context(), now, []Demand{full})
	if err != nil || fits(outcomes) || outcomes[0].Retry > 21*time.Minute {
		t.Errorf("a level above what fits: %+v %v", outcomes, err)
	}
}

// What a server answers that is no Redis of ours is an error, not a count.
func TestAnswersThatMakeNoSense(t *testing.T) {
	demands := []Demand{{Key: "k", Name: "n", Limit: 3, Requests: 3, Per: time.Hour}}
	for name, answer := range map[string][]any{
		"none":              nil,
		"too short":         {"1", int64(1)},
		"no text":           {"1", int64(1), int64(7)},
		"below nothing":     {"1", int64(1), "-1"},
		"more than a count": {"1", int64(1), "9223372036854775807"},
		"not a number":      {"1", int64(1), "nan"},
	} {
		if outcomes, err := outcomesOf(answer, time.Now(), demands); err == nil {
			t.Errorf("%s: %+v", name, outcomes)
		}
	}
}

func await(t testing.TB, condition func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

func writeText(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
