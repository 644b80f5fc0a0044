package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// headers tell a caller how much it may use and has used: RateLimit-Policy and
// RateLimit (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4) with an item
// for each counter, X-RateLimit-* of the tightest one, and Retry-After (RFC
// 9110 §10.2.3) where the request did not fit.
func headers(demands []Demand, outcomes []Outcome) []*corev3.HeaderValue {
	var policies, states []string
	for i := range demands {
		d, o := &demands[i], &outcomes[i]
		policies = append(policies, fmt.Sprintf("%q;q=%d;w=%d", d.Name, d.Limit, d.window()))
		states = append(states, fmt.Sprintf("%q;r=%d;t=%d", d.Name, o.Remaining, wholeSeconds(o.Reset)))
	}
	tight := tightest(outcomes)
	all := []*corev3.HeaderValue{
		{Key: "ratelimit-policy", Value: strings.Join(policies, ", ")},
		{Key: "ratelimit", Value: strings.Join(states, ", ")},
		{Key: "x-ratelimit-limit", Value: strconv.FormatInt(demands[tight].Limit, 10)},
		{Key: "x-ratelimit-remaining", Value: strconv.FormatInt(outcomes[tight].Remaining, 10)},
		{Key: "x-ratelimit-reset", Value: strconv.FormatInt(wholeSeconds(outcomes[tight].Reset), 10)},
	}
	if !fits(outcomes) {
		all = append(all, &corev3.HeaderValue{Key: "retry-after", Value: strconv.FormatInt(max(1, wholeSeconds(retry(outcomes))), 10)})
	}
	return all
}

// window is the time of a counter's whole limit, in seconds: a bucket's is how
// long it takes to empty.
func (d *Demand) window() int64 {
	if d.isQuota() {
		return wholeSeconds(d.End.Sub(d.Begin))
	}
	return max(1, wholeSeconds(micros(d.capacity(), d.Requests)))
}

// tightest is the counter that did not fit and has room last, else the one with
// the least left.
func tightest(outcomes []Outcome) (at int) {
	for i, o := range outcomes {
		best := outcomes[at]
		switch {
		case o.Fits != best.Fits:
			if !o.Fits {
				at = i
			}
		case !o.Fits && o.Retry > best.Retry, o.Fits && o.Remaining < best.Remaining:
			at = i
		}
	}
	return at
}

// retry is when all counters have room again.
func retry(outcomes []Outcome) (longest time.Duration) {
	for _, o := range outcomes {
		longest = max(longest, o.Retry)
	}
	return longest
}

// wholeSeconds rounds up, so that nobody comes too early.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
