package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/envoy"

	"github.com/google/go-cmp/cmp"
)

// Every kind of Counters passes the same suite, at injected times.
func TestCounters(t *testing.T) {
	redis := startRedis(t)
	for name, open := range map[string]func(*testing.T) Counters{
		"memory": func(*testing.T) Counters { return NewMemory(1000) },
		"redis": func(t *testing.T) Counters {
			s := redis.counters(t)
			s.ownClock = true
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			for suite, test := range map[string]func(*testing.T, *clocked){
				"burst": testBurst, "rate": testRate, "quota": testQuota, "all or nothing": testAllOrNothing,
				"clock": testClock, "parallel": testParallel, "list": testList, "odd rates": testOddRates,
			} {
				t.Run(suite, func(t *testing.T) {
					test(t, &clocked{t: t, counters: open(t), now: time.Now(), prefix: t.Name()})
				})
			}
		})
	}
}

// clocked takes at times that the test sets.
type clocked struct {
	t        *testing.T
	counters Counters
	now      time.Time
	prefix   string
}

func (c *clocked) bucket(key string, requests int64, per time.Duration, burst int64) Demand {
	return Demand{Key: c.prefix + key, Name: "n", Limit: burst, Requests: requests, Per: per}
}

func (c *clocked) quota(key string, limit int64) Demand {
	return Demand{Key: c.prefix + key, Name: "n", Limit: limit, Begin: c.now, End: c.now.Add(time.Hour)}
}

func (c *clocked) take(demands ...Demand) []Outcome {
	c.t.Helper()
	outcomes, err := c.counters.Take(c.t.Context(), c.now, demands)
	if err != nil {
		c.t.Fatal(err)
	}
	return outcomes
}

func (c *clocked) expect(want Outcome, d Demand) {
	c.t.Helper()
	if diff := cmp.Diff([]Outcome{want}, c.take(d)); diff != "" {
		c.t.Errorf("(-want +got):\n%s", diff)
	}
}

func testBurst(t *testing.T, c *clocked) {
	d := c.bucket("a", 60, time.Minute, 3)
	c.expect(Outcome{Fits: true, Remaining: 2, Reset: time.Second}, d)
	c.expect(Outcome{Fits: true, Remaining: 1, Reset: 2 * time.Second}, d)
	c.expect(Outcome{Fits: true, Remaining: 0, Reset: 3 * time.Second}, d)
	c.expect(Outcome{Remaining: 0, Reset: 3 * time.Second, Retry: time.Second}, d)
	c.expect(Outcome{Fits: true, Remaining: 2, Reset: time.Second}, c.bucket("b", 60, time.Minute, 3))
}

// What was refused is not counted; room comes back to the microsecond.
func testRate(t *testing.T, c *clocked) {
	d := c.bucket("a", 60, time.Minute, 3)
	for range 20 {
		c.take(d)
	}
	c.now = c.now.Add(time.Second - time.Microsecond)
	c.expect(Outcome{Remaining: 0, Reset: 2*time.Second + time.Microsecond, Retry: time.Microsecond}, d)
	c.now = c.now.Add(time.Microsecond)
	c.expect(Outcome{Fits: true, Remaining: 0, Reset: 3 * time.Second}, d)
	c.now = c.now.Add(time.Hour)
	c.expect(Outcome{Fits: true, Remaining: 2, Reset: time.Second}, d)
}

func testQuota(t *testing.T, c *clocked) {
	d := c.quota("a", 2)
	c.expect(Outcome{Fits: true, Remaining: 1, Reset: time.Hour}, d)
	c.expect(Outcome{Fits: true, Remaining: 0, Reset: time.Hour}, d)
	c.expect(Outcome{Remaining: 0, Reset: time.Hour, Retry: time.Hour}, d)
	lower := d
	lower.Limit = 1
	c.expect(Outcome{Remaining: 0, Reset: time.Hour, Retry: time.Hour}, lower)
	d.Limit = 3
	c.expect(Outcome{Fits: true, Remaining: 0, Reset: time.Hour}, d)
}

// A request that one counter has no room for uses up nothing of the others.
func testAllOrNothing(t *testing.T, c *clocked) {
	wide, quota, narrow := c.bucket("wide", 60, time.Minute, 10), c.quota("quota", 10), c.bucket("narrow", 60, time.Minute, 1)
	if got := c.take(wide, quota, narrow); !fits(got) || got[0].Remaining != 9 || got[1].Remaining != 9 || got[2].Remaining != 0 {
		t.Errorf("the first: %+v", got)
	}
	for range 5 {
		if got := c.take(wide, quota, narrow); fits(got) || !got[0].Fits || !got[1].Fits || got[2].Fits {
			t.Errorf("another: %+v", got)
		}
	}
	if got := c.take(wide, quota); got[0].Remaining != 8 || got[1].Remaining != 8 {
		t.Errorf("refused requests used up something: %+v", got)
	}
}

// A clock that goes back gives nothing back, and none that comes forward again
// gives twice.
func testClock(t *testing.T, c *clocked) {
	d := c.bucket("a", 60, time.Minute, 2)
	c.take(d)
	c.now = c.now.Add(-10 * time.Second)
	c.take(d)
	if got := c.take(d); got[0].Fits {
		t.Errorf("a clock that went back made room: %+v", got)
	}
	c.now = c.now.Add(10 * time.Second)
	if got := c.take(d); got[0].Fits {
		t.Errorf("a clock that came back made room: %+v", got)
	}
}

// Rates that do not divide evenly allow exactly their number.
func testOddRates(t *testing.T, c *clocked) {
	for _, row := range []struct {
		requests int64
		per      time.Duration
	}{{7, time.Second}, {1, 24 * time.Hour}, {999_983, time.Minute}, {3, 7 * time.Second}} {
		d := c.bucket(fmt.Sprint(row), row.requests, row.per, min(row.requests, 50))
		allowed := int64(0)
		for range d.Limit + 10 {
			if fits(c.take(d)) {
				allowed++
			}
		}
		if allowed != d.Limit {
			t.Errorf("%d in %v: %d fit at once, want %d", row.requests, row.per, allowed, d.Limit)
		}
	}
}

// Of N+1 at once N fit, in each of several counters.
func testParallel(t *testing.T, c *clocked) {
	bucket, quota := c.bucket("bucket", 200, time.Hour, 200), c.quota("quota", 300)
	var allowed atomic.Int64
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for range 20 {
				outcomes, err := c.counters.Take(context.Background(), c.now, []Demand{quota, bucket})
				if err != nil {
					t.Error(err)
					return
				}
				if fits(outcomes) {
					allowed.Add(1)
				}
			}
		})
	}
	group.Wait()
	if allowed.Load() != 200 {
		t.Errorf("%d of 640 fit, want 200", allowed.Load())
	}
	if got := c.take(quota); got[0].Remaining != 99 {
		t.Errorf("the other counter has %d left, want 99", got[0].Remaining)
	}
}

func testList(t *testing.T, c *clocked) {
	c.take(c.bucket("/x*/1", 60, time.Minute, 2), c.quota("/x*/2", 9))
	c.take(c.quota("/xx/3", 9))
	for prefix, want := range map[string]int{"/x*/": 2, "/x": 3, "/x?/": 0, "/y": 0} {
		found, err := c.counters.List(t.Context(), c.now, c.prefix+prefix, 10)
		if err != nil || len(found) != want {
			t.Errorf("%q: %d counters, want %d: %v %v", prefix, len(found), want, found, err)
		}
	}
	if found, _ := c.counters.List(t.Context(), c.now, c.prefix+"/xx", 10); len(found) == 1 && (found[0].A != 1 || found[0].B != 9) {
		t.Errorf("a quota is %+v", found[0])
	}
	if found, _ := c.counters.List(t.Context(), c.now, c.prefix, 1); len(found) != 1 {
		t.Errorf("%d counters, at most 1 was asked for", len(found))
	}
}

// Memory is bounded, and forgets what was unused for longest.
func TestMemoryForgets(t *testing.T) {
	c := &clocked{t: t, counters: NewMemory(3), now: time.Now()}
	for _, key := range []string{"a", "b", "c", "a", "d"} {
		c.take(c.quota(key, 10))
	}
	for key, used := range map[string]int64{"a": 2, "c": 1, "d": 1} {
		if got := c.take(c.quota(key, 10)); 9-got[0].Remaining != used {
			t.Errorf("%s had %d, want %d", key, 9-got[0].Remaining, used)
		}
	}
	if counters, forgotten := c.counters.(*Memory).figures(); counters != 3 || forgotten != 1 {
		t.Errorf("%d counters, %d forgotten", counters, forgotten)
	}
}

// Whoever comes from many addresses, which takes no token, forgets no caller's
// quota.
func TestAddressesForgetNoCaller(t *testing.T) {
	m, now := NewMemory(3), time.Now()
	quota := Demand{Key: keyOf(byClient, "a", "issuer") + "day/2026-02-28", Limit: 10, Begin: now, End: now.Add(time.Hour)}
	rate := Rate{Requests: 1, Per: time.Hour, Burst: 1}
	take := func(d Demand) Outcome {
		outcomes, err := m.Take(t.Context(), now, []Demand{d})
		if err != nil {
			t.Fatal(err)
		}
		return outcomes[0]
	}
	take(quota)
	for i := range 20 {
		limit := envoy.Limit{By: envoy.ByAddress, Scope: envoy.EveryRoute}
		take(rate.demand(keyOf(limit.By, fmt.Sprintf("2001:db8:%x::/64", i), ""), "shared-gateway-address", limit.Scope))
	}
	if got := take(quota); got.Remaining != 8 {
		t.Errorf("%d of 10 remain after two requests", got.Remaining)
	}
	if counters, _ := m.figures(); counters != 4 {
		t.Errorf("%d counters are kept, not 3 of addresses and the caller's", counters)
	}
}

// Two processes whose clocks differ count by Redis's.
func TestRedisHasTheClock(t *testing.T) {
	redis := startRedis(t)
	one, two := redis.counters(t), redis.counters(t)
	c := &clocked{t: t, now: time.Now()}
	d := c.bucket("a", 1, time.Hour, 2)
	for i, s := range []*Shared{one, two, one} {
		c.counters = s
		c.now = c.now.Add(24 * time.Hour)
		if got := c.take(d); fits(got) != (i < 2) {
			t.Errorf("request %d: %+v", i, got)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	redis := startRedis(b)
	for name, counters := range map[string]Counters{"memory": NewMemory(100_000), "redis": redis.counters(b)} {
		b.Run(name, func(b *testing.B) {
			now := time.Now()
			b.RunParallel(func(p *testing.PB) {
				d := []Demand{{Key: "client", Limit: 1 << 20, Requests: 1 << 20, Per: time.Minute}, {Key: "day", Limit: maxLimit, End: now.Add(time.Hour)}}
				for p.Next() {
					if _, err := counters.Take(b.Context(), now, d); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
