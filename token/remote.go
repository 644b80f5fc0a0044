package token

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// RemoteConfig says where an issuer's JWK Set is and how it is kept.
type RemoteConfig struct {
	// URL of the JWK Set: https, or http as well with AllowInternal.
	URL string
	// Algorithms are those the issuer may sign with.
	Algorithms []Algorithm
	// AllowInternal lets the URL lead to loopback, private and other addresses
	// that are not public, and be http. Danger: whoever can change the name's
	// address then makes us fetch from inside.
	AllowInternal bool
	// Socket is the path of a Unix socket that the server listens on; URL then
	// says only what to ask for. Default: none.
	Socket string
	// RootCAs verify the server. Default: the system's.
	RootCAs *x509.CertPool
	// MaxAge is how old the last good set may be. Default: 24h.
	MaxAge time.Duration
	// Interval is the longest time between fetches; the server's Cache-Control
	// max-age can make it shorter, down to a second. Default: 5m.
	Interval time.Duration
	// MinInterval is the least time from a fetch to one that Refresh asks for,
	// and the longest between attempts while there are no keys. Default: 5s.
	MinInterval time.Duration
	// Logger is told of changes and failures. Default: none.
	Logger *slog.Logger
	// Now is the clock for ages. Default: time.Now.
	Now func() time.Time
}

// Remote fetches an issuer's JWK Set and keeps the last good one. Fetches are
// never in a request's way: Keys and Refresh return at once.
type Remote struct {
	config RemoteConfig
	client *http.Client
	asked  chan struct{} // Refresh's wish, at most one
	renew  chan struct{} // Renew's, which does not wait

	current atomic.Pointer[fetched]

	mu      sync.Mutex
	dropped map[string]bool // kids and thumbprints that must not come back
	lastErr error
	began   time.Time // of the first failure, before any success
	told    string    // the failure that was logged last
	success time.Time
	renewed int // calls of Renew: a fetch that began before one counts for nothing
}

// fetched is a key set and when it came.
type fetched struct {
	keys *KeySet
	at   time.Time
}

// NewRemote checks the configuration; nothing is fetched before Run.
func NewRemote(config RemoteConfig) (*Remote, error) {
	config.setDefaults()
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("configuring the keys of %q: %w", config.URL, err)
	}
	return &Remote{
		config:  config,
		client:  newClient(config),
		asked:   make(chan struct{}, 1),
		renew:   make(chan struct{}, 1),
		dropped: map[string]bool{},
		lastErr: errors.New("not fetched yet"),
	}, nil
}

func (c *RemoteConfig) setDefaults() {
	setDuration(&c.MaxAge, 24*time.Hour)
	setDuration(&c.Interval, 5*time.Minute)
	setDuration(&c.MinInterval, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func setDuration(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func (c *RemoteConfig) check() error {
	if err := checkAlgorithms(c.Algorithms); err != nil {
		return err
	}
	for name, d := range map[string]time.Duration{"MaxAge": c.MaxAge, "Interval": c.Interval, "MinInterval": c.MinInterval} {
		if d < 0 {
			return fmt.Errorf("%s %s is negative", name, d)
		}
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return fmt.Errorf("the URL: %w", err)
	case u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the URL is not https://HOST/PATH")
	case u.Scheme == "http" && !c.AllowInternal:
		return errors.New("the URL is http, which is for internal addresses alone: whoever is between could give us keys; use https")
	}
	return nil
}

// Keys are the issuer's keys; nil before the first fetch has succeeded and once
// the last success is older than MaxAge: then nothing can be verified.
func (r *Remote) Keys() *KeySet {
	f := r.current.Load()
	if f == nil || f.keys == nil || r.config.Now().Sub(f.at) > r.config.MaxAge {
		return nil
	}
	return f.keys
}

// Refresh asks for a fetch soon, because a token names a key that is not
// known. Any number of calls lead to one fetch per MinInterval.
func (r *Remote) Refresh() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// Renew forgets all keys at once, and fetches them anew without waiting:
// nothing is verified until a fetch that began after the call has succeeded.
// It is for an issuer whose state is not the one that was known, such as one
// that was restored from a backup: it does not know its latest keys either.
func (r *Remote) Renew() {
	r.mu.Lock()
	r.renewed++
	r.current.Store(nil)
	r.mu.Unlock()
	select {
	case r.renew <- struct{}{}:
	default:
	}
}

// Drop forgets a key by its kid, at once and for good: even a stale set that
// still lists it does not bring it back, under this kid or another.
func (r *Remote) Drop(kid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped[kid] = true
	if f := r.current.Load(); f != nil {
		r.current.Store(&fetched{keys: r.allowed(f.keys), at: f.at})
	}
}

// LastError is what the last fetch ended with; nil if it succeeded.
func (r *Remote) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr
}

// LastSuccess is when usable keys were last fetched; zero if never.
func (r *Remote) LastSuccess() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.success
}

// Fetch fetches the keys once, now, for whoever has no Run; it returns how long
// the set is fresh. A failure leaves the last good set in place.
func (r *Remote) Fetch(ctx context.Context) (fresh time.Duration, err error) { return r.fetch(ctx) }

// Run keeps the keys current until the context ends.
func (r *Remote) Run(ctx context.Context) error {
	for failures := 0; ; {
		fresh, err := r.fetch(ctx)
		if failures++; err == nil {
			failures = 0
		}
		if !r.wait(ctx, r.pause(failures, fresh)) {
			return nil
		}
	}
}

// wait returns when the next fetch is due: after MinInterval if one is asked
// for, at once after Renew, and after the pause anyway. It returns false once the context ends.
func (r *Remote) wait(ctx context.Context, pause time.Duration) bool {
	due := time.NewTimer(pause)
	defer due.Stop()
	soonest := time.NewTimer(r.config.MinInterval)
	defer soonest.Stop()
	var asked <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			return true
		case <-asked:
			return true
		case <-r.renew:
			return true
		case <-soonest.C:
			asked = r.asked
		}
	}
}

// firstRetry is the pause after one failure; each further one doubles it.
const firstRetry = 500 * time.Millisecond

// pause is how long to wait after so many failures in a row, or while an answer
// is fresh. It is spread by a fifth, so that replicas do not keep step.
func (r *Remote) pause(failures int, fresh time.Duration) time.Duration {
	d := min(r.config.Interval, fresh)
	if failures > 0 {
		d = min(r.config.Interval, firstRetry<<min(failures-1, 20))
		if r.Keys() == nil {
			d = min(d, r.config.MinInterval)
		}
	}
	return d - rand.N(d/5+1)
}
