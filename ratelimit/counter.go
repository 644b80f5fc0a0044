package ratelimit

import (
	"context"
	"time"
)

// Demand is one counter that a request must fit into: a Bucket or a Quota.
type Demand struct {
	// Key names the counter.
	Key string
	// Name is the policy's in response headers: lower-case letters, digits and
	// hyphens.
	Name string
	// Limit is how many requests fit: a bucket's burst, a quota's whole.
	Limit int64
	// Requests and Per are the rate at which a bucket empties; zero in a quota.
	Requests int64
	Per      time.Duration
	// Begin and End bound a quota's window; zero in a bucket.
	Begin, End time.Time
}

// Outcome is what a counter says of a request.
type Outcome struct {
	// Fits tells whether this counter has room; a request is counted only where
	// all of its counters have.
	Fits bool
	// Remaining is how many more requests fit now.
	Remaining int64
	// Reset is when the counter is empty again, from now.
	Reset time.Duration
	// Retry is when the next request fits, from now; zero where one fits.
	Retry time.Duration
}

// Counters keeps counters. Take counts one request in all of them or, where one
// has no room, in none, in one step: of N+1 requests at once N fit.
type Counters interface {
	Take(ctx context.Context, now time.Time, demands []Demand) ([]Outcome, error)
	// List are the counters whose keys begin with prefix, at most max.
	List(ctx context.Context, now time.Time, prefix string, max int) ([]Stored, error)
}

// Stored is a counter as it is kept: a bucket's level and the microsecond that
// it had it at; a quota's use and limit.
type Stored struct {
	Key  string
	A, B int64
}

func (d *Demand) isQuota() bool { return d.Requests == 0 }

// A bucket is GCRA written as a level of credits, so that whole numbers do: one
// request adds Per in microseconds, and Requests flow off in each microsecond.
// The level holds Limit requests. Two gateways, two clocks and any division
// come out the same.

func (d *Demand) cost() int64     { return d.Per.Microseconds() }
func (d *Demand) capacity() int64 { return d.Limit * d.cost() }

// level is what is left of a level after a time; a clock that went back lets
// nothing flow off.
func (d *Demand) level(stored Stored, now int64) int64 {
	elapsed := max(0, now-stored.B)
	if elapsed > stored.A/d.Requests {
		return 0
	}
	return stored.A - elapsed*d.Requests
}

// bucket is the outcome at a level, before the request is counted.
func (d *Demand) bucket(level int64) Outcome {
	o := Outcome{
		Fits:      level+d.cost() <= d.capacity(),
		Remaining: max(0, d.capacity()-level) / d.cost(),
		Reset:     micros(level, d.Requests),
	}
	if !o.Fits {
		o.Retry = micros(level+d.cost()-d.capacity(), d.Requests)
	}
	return o
}

// quota is the outcome at a use, before the request is counted.
func (d *Demand) quota(used int64, now time.Time) Outcome {
	o := Outcome{Fits: used < d.Limit, Remaining: max(0, d.Limit-used), Reset: d.End.Sub(now)}
	if !o.Fits {
		o.Retry = o.Reset
	}
	return o
}

// micros is how long credits take to flow off, rounded up.
func micros(credits, perMicro int64) time.Duration {
	return time.Duration((credits+perMicro-1)/perMicro) * time.Microsecond
}

// fits tells whether all do.
func fits(outcomes []Outcome) bool {
	for _, o := range outcomes {
		if !o.Fits {
			return false
		}
	}
	return true
}
