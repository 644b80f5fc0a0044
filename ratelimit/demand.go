package ratelimit

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"gatehouse.dev/gatehouse/envoy"
)

// caller is whom a descriptor is about.
type caller struct {
	client, subject, issuer, plan string
	roles                         []string
}

// maxDemands bounds the counters of one decision.
const maxDemands = 32

// demands are the counters that a request must fit into. Envoy says what its
// route's configuration says (the limits themselves) and what the authorizer
// found out (who calls), so there are no limits of routes here that could
// differ from the routes'.
func (c *Config) demands(descriptors []*commonv3.RateLimitDescriptor, now time.Time) (all []Demand, err error) {
	for _, d := range descriptors {
		entries := map[string]string{}
		for _, e := range d.GetEntries() {
			entries[e.GetKey()] = e.GetValue()
		}
		switch limit, plan := entries[envoy.LimitEntry], entries[envoy.PlanEntry]; {
		case limit != "":
			demand, err := limitDemand(limit, entries)
			if err != nil {
				return nil, err
			}
			all = append(all, demand)
		case plan != "":
			more, err := c.planDemands(entries, now)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		default:
			return nil, errors.New("a descriptor has neither a limit nor a plan: the route's configuration is not from the control plane")
		}
	}
	if len(all) == 0 || len(all) > maxDemands {
		return nil, fmt.Errorf("the request has %d counters, not 1 to %d", len(all), maxDemands)
	}
	return all, nil
}

// limitDemand reads a limit as the control plane writes it (envoy.Limit).
func limitDemand(text string, entries map[string]string) (Demand, error) {
	l, err := envoy.ParseLimit(text)
	if err != nil {
		return Demand{}, err
	}
	rate := Rate{Requests: l.Requests, Per: l.Per, Burst: l.Burst}
	if err := rate.check(); err != nil {
		return Demand{}, fmt.Errorf("the limit %q %w", text, err)
	}
	value := l.Scope
	if entry := l.Entry(); entry != "" {
		if value = entries[entry]; value == "" {
			return Demand{}, fmt.Errorf("a limit by %s came without one", l.By)
		}
	}
	prefix := ""
	if l.Scope == envoy.EveryRoute {
		prefix = "gateway-"
	}
	return rate.demand(keyOf(l.By, value, entries[envoy.IssuerEntry]), "shared-"+prefix+l.By, l.Scope), nil
}

// demand is the rate's bucket. What makes it another limit is in its key, so
// that an edited limit begins anew.
func (r Rate) demand(owner, name, scope string) Demand {
	return Demand{
		Key:   fmt.Sprintf("%srate/%s/%d/%d/%d", owner, url.PathEscape(scope), r.Requests, r.Per.Microseconds(), r.Burst),
		Name:  name + "-" + strconv.FormatInt(int64(r.Per/time.Second), 10) + "s",
		Limit: r.Burst, Requests: r.Requests, Per: r.Per,
	}
}

// keyOf begins the keys of all counters of one caller.
func keyOf(by, value, issuer string) string {
	return by + "/" + url.PathEscape(value) + "/" + url.PathEscape(issuer) + "/"
}

func (c *Config) planDemands(entries map[string]string, now time.Time) (all []Demand, err error) {
	who := caller{
		client: entries[envoy.ByClient], subject: entries[envoy.BySubject], issuer: entries[envoy.IssuerEntry],
		plan: entries[envoy.PlanEntry], roles: strings.Split(entries[envoy.RolesEntry], ","),
	}
	if who.client == "" || who.subject == "" || who.issuer == "" {
		return nil, errors.New("a plan's request came without client, subject and issuer")
	}
	name := c.planOf(who)
	plan, ok := c.Plans[name]
	if !ok {
		return nil, errors.New("the request counts against a plan and none is configured: set ratelimit.plans and default_plan")
	}
	owner := keyOf(byClient, who.client, who.issuer)
	if plan.By == bySubject {
		owner = keyOf(bySubject, who.subject, who.issuer)
	}
	for _, rate := range plan.Limits {
		all = append(all, rate.demand(owner, name, "plan "+name))
	}
	// A quota's key has no plan in it: who changes the plan within the month has
	// used what was used.
	if plan.Daily > 0 {
		all = append(all, dayQuota(owner, name, plan.Daily, now))
	}
	if plan.Monthly > 0 {
		all = append(all, monthQuota(owner, name, plan.Monthly, now))
	}
	if len(all) == 0 {
		// A plan without limits: something must be counted, and this never fills.
		all = append(all, monthQuota(owner, name, maxLimit, now))
	}
	return all, nil
}

// planOf is a caller's plan: what the operator says of the client, then what
// the token says, then its roles, then the default.
func (c *Config) planOf(who caller) string {
	if plan, ok := c.ClientPlans[who.client]; ok {
		return plan
	}
	if _, ok := c.Plans[who.plan]; ok {
		return who.plan
	}
	for _, role := range who.roles {
		// The authorizer encodes what a list's text form could not hold.
		decoded, err := url.PathUnescape(role)
		if plan, ok := c.RolePlans[decoded]; ok && err == nil {
			return plan
		}
	}
	return c.DefaultPlan
}

// dayQuota and monthQuota are calendar windows in UTC.
func dayQuota(owner, plan string, limit int64, now time.Time) Demand {
	now = now.UTC()
	begin := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	return Demand{Key: owner + "day/" + begin.Format("2006-01-02"), Name: plan + "-day", Limit: limit, Begin: begin, End: begin.AddDate(0, 0, 1)}
}

func monthQuota(owner, plan string, limit int64, now time.Time) Demand {
	now = now.UTC()
	begin := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Demand{Key: owner + "month/" + begin.Format("2006-01"), Name: plan + "-month", Limit: limit, Begin: begin, End: begin.AddDate(0, 1, 0)}
}
