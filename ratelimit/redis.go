package ratelimit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"gatehouse.dev/gatehouse/internal/serve"
)

//go:embed take.lua
var takeScript string

// exactBits is how much of a number Redis's scripts hold exactly.
const exactBits = 53

// keyPrefix begins all our keys.
const keyPrefix = "gatehouse:"

// Shared keeps counters in Redis, one round trip a decision.
type Shared struct {
	client *redis.Client
	take   *redis.Script
	// ownClock: the time is the caller's, for tests; else it is the server's, so
	// that gateways whose clocks differ count alike.
	ownClock bool
}

// silent keeps the library from writing to the standard error by itself.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// NewShared prepares for a Redis; it opens no connection.
func NewShared(config Redis) (*Shared, error) {
	redis.SetLogger(silent{})
	options := &redis.Options{
		Network: "tcp", Addr: config.Address, DB: config.Database,
		DialTimeout: config.Timeout, ReadTimeout: config.Timeout, WriteTimeout: config.Timeout, PoolTimeout: config.Timeout,
		ContextTimeoutEnabled: true,
		// A second try could count a request twice.
		MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, Protocol: 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PoolSize:                 64, MinIdleConns: 8,
	}
	if path, unix := serve.UnixPath(config.Address); unix {
		options.Network, options.Addr = "unix", path
	}
	if config.PasswordFile != "" || config.Username != "" {
		options.CredentialsProviderContext = func(context.Context) (string, string, error) { return config.credentials() }
		if _, _, err := config.credentials(); err != nil {
			return nil, err
		}
	}
	if config.TLS {
		var err error
		if options.TLSConfig, err = config.tls(); err != nil {
			return nil, err
		}
	}
	return &Shared{client: redis.NewClient(options), take: redis.NewScript(takeScript)}, nil
}

// credentials are read anew each time, so that a new password needs no restart.
func (r Redis) credentials() (user, password string, err error) {
	if r.PasswordFile == "" {
		return r.Username, "", nil
	}
	data, err := os.ReadFile(string(r.PasswordFile))
	if err != nil {
		return "", "", fmt.Errorf("reading ratelimit.redis.password_file: %w", err)
	}
	return r.Username, strings.TrimRight(string(data), "\r\n"), nil
}

func (r Redis) tls() (*tls.Config, error) {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, fmt.Errorf("reading ratelimit.redis.address: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if r.CA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(string(r.CA))
	if err != nil {
		return nil, fmt.Errorf("reading ratelimit.redis.ca: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading ratelimit.redis.ca: %q holds no PEM certificate", r.CA)
	}
	return config, nil
}

// Take implements Counters.
func (s *Shared) Take(ctx context.Context, now time.Time, demands []Demand) ([]Outcome, error) {
	keys, args := make([]string, len(demands)), make([]any, 1, 1+3*len(demands))
	args[0] = 0
	if s.ownClock {
		args[0] = now.UnixMicro()
	}
	for i := range demands {
		d := &demands[i]
		keys[i] = keyPrefix + d.Key
		last := d.cost()
		if d.isQuota() {
			last = d.End.UnixMilli()
		}
		args = append(args, d.Limit, d.Requests, last)
	}
	answer, err := s.take.Run(ctx, s.client, keys, args...).Slice()
	if err != nil {
		return nil, fmt.Errorf("counting in Redis: %w", err)
	}
	return outcomesOf(answer, now, demands)
}

// outcomesOf reads the script's answer.
func outcomesOf(answer []any, now time.Time, demands []Demand) ([]Outcome, error) {
	if len(answer) != len(demands)+2 {
		return nil, errors.New("counting in Redis: its answer has another length")
	}
	counted := answer[1] == int64(1)
	outcomes := make([]Outcome, len(demands))
	for i := range demands {
		d := &demands[i]
		text, _ := answer[i+2].(string)
		number, err := strconv.ParseUint(text, 10, exactBits)
		if err != nil {
			return nil, fmt.Errorf("counting in Redis: reading its answer: %w", err)
		}
		held := int64(number)
		switch {
		case d.isQuota() && counted:
			outcomes[i] = d.quota(held+1, now)
		case d.isQuota():
			outcomes[i] = d.quota(held, now)
		case counted:
			outcomes[i] = d.bucket(held + d.cost())
		default:
			outcomes[i] = d.bucket(held)
		}
		if counted {
			outcomes[i].Fits, outcomes[i].Retry = true, 0
		}
	}
	return outcomes, nil
}

// List implements Counters. It walks all keys: for people who ask, not for
// requests.
func (s *Shared) List(ctx context.Context, _ time.Time, prefix string, max int) (found []Stored, err error) {
	keys := s.client.Scan(ctx, 0, keyPrefix+escapeGlob(prefix)+"*", 1000).Iterator()
	for keys.Next(ctx) && len(found) < max {
		value, err := s.client.Get(ctx, keys.Val()).Result()
		if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
			continue // it ended meanwhile, or is not ours
		}
		if err != nil {
			return nil, fmt.Errorf("listing counters in Redis: %w", err)
		}
		stored := Stored{Key: strings.TrimPrefix(keys.Val(), keyPrefix)}
		if _, err := fmt.Sscanf(value, "%d %d", &stored.A, &stored.B); err != nil {
			continue // not ours
		}
		found = append(found, stored)
	}
	if err := keys.Err(); err != nil {
		return nil, fmt.Errorf("listing counters in Redis: %w", err)
	}
	return found, nil
}

func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// probe is a counter of nobody's that is never full: a full one is only read.
var probe = []Demand{{Key: "probe", Limit: 1e6, Requests: 1e6, Per: time.Second}}

// ping tells whether Redis counts: one that is full, or somebody's replica,
// answers and does not.
func (s *Shared) ping(ctx context.Context) error {
	_, err := s.Take(ctx, time.Now(), probe)
	return err
}

func (s *Shared) close() error { return s.client.Close() }
