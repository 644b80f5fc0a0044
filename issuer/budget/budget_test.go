package budget

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestBuckets(t *testing.T) {
	b := New(2, 10*time.Second)
	one, other := KeyOf("a", "b"), KeyOf("ab", "")
	for i, row := range []struct {
		key  Key
		at   time.Duration
		wait time.Duration
	}{
		{one, 0, 0}, {one, 0, 0}, {one, 0, 10 * time.Second}, // spent
		{other, 0, 0},
		{one, 4 * time.Second, 6 * time.Second},
		{one, 10 * time.Second, 0}, {one, 10 * time.Second, 10 * time.Second},
		{one, time.Hour, 0}, {one, time.Hour, 0}, {one, time.Hour, 10 * time.Second}, // never more than the burst
		{one, time.Minute, 10 * time.Second}, // a clock that was set back gives nothing
	} {
		if wait := b.Take(row.key, start.Add(row.at)); wait != row.wait {
			t.Errorf("use %d waits %s, want %s", i, wait, row.wait)
		}
	}
	b.Give(one)
	if b.Take(one, start.Add(time.Hour)) > 0 {
		t.Error("what was given back is not there")
	}
	b.Forget(one)
	for range 2 {
		if b.Take(one, start.Add(time.Hour)) > 0 {
			t.Error("a forgotten bucket is not full")
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	b := New(5, time.Second)
	for i := range maxBuckets + 1000 {
		b.Take(KeyOf(fmt.Sprint(i)), start)
	}
	if len(b.byKey) != maxBuckets || b.recent.Len() != maxBuckets {
		t.Errorf("%d and %d buckets are kept", len(b.byKey), b.recent.Len())
	}
}
