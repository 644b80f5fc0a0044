package ratelimit

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Config is the rate-limit service's configuration, `ratelimit:` in
// gatehouse.yaml.
type Config struct {
	// Where Envoys reach the service: unix:PATH, a 0600 socket, or HOST:PORT,
	// which needs `identity`. Danger: who reaches it can use up others' limits.
	// Default: unix:run/ratelimit.sock in data_dir.
	Listen string `yaml:"listen"`
	// The SPIFFE id that callers on the Unix socket are taken for. Default:
	// spiffe://TRUST_DOMAIN/gateway/edge.
	LocalIdentity string `yaml:"local_identity"`
	// This part's certificate for mutual TLS with Envoys. Default: none, Unix
	// sockets only.
	Identity serve.Identity `yaml:"identity"`
	// The loopback address of /metrics, /livez, /readyz and /usage. Default:
	// 127.0.0.1:9494.
	Telemetry string `yaml:"telemetry"`
	// What callers may use, by the plan's name: lower-case letters, digits and
	// hyphens. With plans, every route that is not public counts. Default: none.
	Plans map[string]Plan `yaml:"plans"`
	// The plan of callers whose token names none, or one that is not here.
	// Required with plans. Default: none.
	DefaultPlan string `yaml:"default_plan"`
	// The plans of clients by their id, whatever their tokens say. Default: none.
	ClientPlans map[string]string `yaml:"client_plans"`
	// The plans of people by their roles; the first role of the token, in its
	// order, that is here counts, where the token names no plan. Default: none.
	RolePlans map[string]string `yaml:"role_plans"`
	// How many counters of callers are kept in this process, and how many of
	// addresses, at about 300 bytes each; beyond it, the one unused for longest is
	// forgotten. Default: 200000.
	MaxCounters int `yaml:"max_counters"`
	// The Redis that the services of several gateways count in. Default: none,
	// counters are in this process and begin anew with it.
	Redis *Redis `yaml:"redis"`
	// How many of these services share one Redis. While Redis is out of reach,
	// each allows its part of every limit, at least 1. Default: 2.
	Replicas int64 `yaml:"replicas"`
}

// Plan is what one caller may use.
type Plan struct {
	// Who counts as one caller: client or subject. Default: client.
	By string `yaml:"by"`
	// How fast. Default: no such limit.
	Limits []Rate `yaml:"limits"`
	// How many requests in a calendar day, in UTC. Default: 0, no limit.
	Daily int64 `yaml:"daily"`
	// How many requests in a calendar month, in UTC. Default: 0, no limit.
	Monthly int64 `yaml:"monthly"`
}

// Rate is a number of requests in a time.
type Rate struct {
	// How many requests. Default: none, required.
	Requests int64 `yaml:"requests"`
	// In which time, 1s to 24h. Default: 1m.
	Per time.Duration `yaml:"per"`
	// How many may come at once. Default: requests.
	Burst int64 `yaml:"burst"`
}

// Redis is a Redis server, from version 6.2; no cluster, as one decision is one
// script over several keys.
type Redis struct {
	// HOST:PORT, or unix:PATH. Default: none, required.
	Address string `yaml:"address"`
	// Whether to use TLS. Danger: without it, who is on the way reads and writes
	// counters and the password. Default: false, which is only for loopback and
	// Unix sockets.
	TLS bool `yaml:"tls"`
	// The PEM authorities that its certificate is verified against. Default: the
	// system's.
	CA conf.Path `yaml:"ca"`
	// The user. Default: none.
	Username string `yaml:"username"`
	// The file with the password, read at each connection; keep it 0600. Default:
	// none.
	PasswordFile conf.Path `yaml:"password_file"`
	// The number of the database. Default: 0.
	Database int `yaml:"database"`
	// How long one decision may wait for it, 1ms to 200ms; after three late ones
	// in a row it counts as out of reach. Default: 150ms.
	Timeout time.Duration `yaml:"timeout"`
}

const (
	defaultTrustDomain = "gatehouse.local"
	defaultTelemetry   = "127.0.0.1:9494"
	defaultCounters    = 200_000
	defaultTimeout     = 150 * time.Millisecond
	byClient           = "client"
	bySubject          = "subject"
)

// SetDefaults fills what is empty. Relative socket paths are in dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.Listen, "unix:run/ratelimit.sock")
	c.Listen = serve.Absolute(dataDir, c.Listen)
	conf.Default(&c.LocalIdentity, envoy.EdgeIdentity(defaultTrustDomain))
	conf.Default(&c.Telemetry, defaultTelemetry)
	conf.Default(&c.MaxCounters, defaultCounters)
	conf.Default(&c.Replicas, 2)
	for name, p := range c.Plans {
		conf.Default(&p.By, byClient)
		p.Limits = slices.Clone(p.Limits)
		for i := range p.Limits {
			conf.Default(&p.Limits[i].Per, time.Minute)
			conf.Default(&p.Limits[i].Burst, p.Limits[i].Requests)
		}
		c.Plans[name] = p
	}
	if c.Redis != nil {
		conf.Default(&c.Redis.Timeout, defaultTimeout)
	}
}

var planName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate reports everything that is wrong, with keys relative to Config.
func (c *Config) Validate() (vs conf.Violations) {
	vs.AddUnder("", serve.ValidateAddress("listen", c.Listen, c.Identity))
	vs.AddUnder("identity", c.Identity.Validate())
	vs.AddUnder("", serve.ValidateLoopback("telemetry", c.Telemetry))
	if trustDomain(c.LocalIdentity) == "" {
		vs.Add("local_identity", c.LocalIdentity, "is no SPIFFE id", "write spiffe://TRUST_DOMAIN/gateway/edge")
	}
	if c.MaxCounters < 1000 {
		vs.Add("max_counters", c.MaxCounters, "is less than 1000", "use one for each caller and limit")
	}
	if c.Replicas < 1 {
		vs.Add("replicas", c.Replicas, "is less than 1", "count the services that share the Redis")
	}
	vs.AddUnder("", c.validatePlans())
	if c.Redis != nil {
		vs.AddUnder("redis", c.Redis.validate())
	}
	return vs
}

func (c *Config) validatePlans() (vs conf.Violations) {
	for name, p := range c.Plans {
		key := "plans." + name
		if !planName.MatchString(name) {
			vs.Add(key, nil, "is no usable plan name", "use lower-case letters, digits and hyphens, 63 at most")
		}
		vs.AddUnder(key, p.validate())
	}
	named := func(key, plan string) {
		if _, ok := c.Plans[plan]; !ok {
			vs.Add(key, plan, "names no plan", "declare it under ratelimit.plans")
		}
	}
	if len(c.Plans) > 0 || c.DefaultPlan != "" {
		named("default_plan", c.DefaultPlan)
	}
	for client, plan := range c.ClientPlans {
		named("client_plans."+client, plan)
	}
	for role, plan := range c.RolePlans {
		named("role_plans."+role, plan)
	}
	return vs
}

func (p Plan) validate() (vs conf.Violations) {
	if p.By != byClient && p.By != bySubject {
		vs.Add("by", p.By, "is neither client nor subject", "write one of the two")
	}
	if p.Daily < 0 || p.Monthly < 0 || p.Daily > maxLimit || p.Monthly > maxLimit {
		vs.Add("daily", nil, "and monthly must be between 0 and 10^12", "0 is no limit")
	}
	for i, r := range p.Limits {
		if err := r.check(); err != nil {
			vs.Add(fmt.Sprintf("limits[%d]", i), nil, err.Error(), "write such as {requests: 100, per: 1m}")
		}
	}
	return vs
}

// maxLimit bounds quotas, and maxCredit what a bucket may hold in credits
// (Bucket): whole numbers that are exact in Redis's scripts, which count in
// doubles.
const (
	maxLimit  = 1_000_000_000_000
	maxCredit = 1 << 52
)

// check tells whether the rate can be counted exactly.
func (r Rate) check() error {
	switch {
	case r.Requests < 1 || r.Requests > maxLimit:
		return fmt.Errorf("has %d requests, not 1 to 10^12", r.Requests)
	case r.Per < time.Second || r.Per > 24*time.Hour:
		return fmt.Errorf("has the time %v, not 1s to 24h", r.Per)
	case r.Burst < 1:
		return fmt.Errorf("has a burst of %d, not 1 or more", r.Burst)
	case float64(r.Burst)*float64(r.Per.Microseconds()) > maxCredit || float64(r.Requests)*float64(r.Per.Microseconds()) > math.MaxInt64/4:
		return fmt.Errorf("has more requests than can be counted in %v", r.Per)
	}
	return nil
}

func (r *Redis) validate() (vs conf.Violations) {
	path, unix := serve.UnixPath(r.Address)
	if r.Address == "" || unix && path == "" {
		vs.Add("address", r.Address, "is missing", "write HOST:PORT or unix:PATH")
	} else if !unix && !r.TLS {
		for range serve.ValidateLoopback("address", r.Address) {
			vs.Add("address", r.Address, "is reached unencrypted on another machine", "set tls: true")
		}
	}
	if r.CA != "" && !r.TLS {
		vs.Add("ca", r.CA, "is set without tls", "set tls: true, or remove it")
	}
	if r.Timeout < time.Millisecond || r.Timeout > 200*time.Millisecond {
		vs.Add("timeout", r.Timeout, "is not between 1ms and 200ms", "Envoy waits 250ms for the whole decision")
	}
	if r.Database < 0 {
		vs.Add("database", r.Database, "is negative", "use 0")
	}
	return vs
}

// trustDomain is that of a SPIFFE id, empty for what is none.
func trustDomain(id string) string {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	domain, path, found := strings.Cut(rest, "/")
	if !ok || !found || path == "" {
		return ""
	}
	return domain
}
