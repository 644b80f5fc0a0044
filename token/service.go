package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// AssertionHeader carries the assertion, in HTTP and as gRPC metadata.
const AssertionHeader = "gatehouse-assertion"

// narrowHeader is how a service passes on fewer scopes than it has.
const narrowHeader = "gatehouse-narrow-scope"

// ServiceConfig says which service verifies.
type ServiceConfig struct {
	// Service is its SPIFFE id, spiffe://TRUST_DOMAIN/service/NAME. Assertions for
	// any other are refused.
	Service string
	// KeysURL is where the authorizers' public keys are: unix:PATH, the socket that
	// the service's sidecars share (`--assertion-keys`), or the URL of
	// /assertion-keys on the telemetry address of a sidecar or an authorizer, on
	// loopback or https. On a port a sidecar that takes over is not found, and
	// whoever listens there meanwhile is believed.
	KeysURL string
	// Skew is how far clocks may be off, up to MaxSkew. Default: 30s.
	Skew time.Duration
	// Logger is told why requests are refused and of changes of keys; callers are
	// not. Default: none.
	Logger *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// ServiceVerifier lets requests with a good assertion for one service through
// to it. It starts nothing: keys are fetched when requests need them.
type ServiceVerifier struct {
	verifier *AssertionVerifier
	service  string
	keys     *serviceKeys
	logger   *slog.Logger
}

// NewServiceVerifier checks the configuration; nothing is fetched yet.
func NewServiceVerifier(config ServiceConfig) (*ServiceVerifier, error) {
	setDuration(&config.Skew, 30*time.Second)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	domain, name, found := strings.Cut(strings.TrimPrefix(config.Service, "spiffe://"), "/service/")
	if !found || domain == "" || name == "" || !strings.HasPrefix(config.Service, "spiffe://") {
		return nil, fmt.Errorf("configuring a service's verifier: %q is not spiffe://TRUST_DOMAIN/service/NAME", config.Service)
	}
	keysURL, socket, err := keysAt(config.KeysURL)
	if err != nil {
		return nil, fmt.Errorf("configuring a service's verifier: KeysURL %q %w", config.KeysURL, err)
	}
	remote, err := NewRemote(RemoteConfig{
		URL: keysURL, Socket: socket, Algorithms: []Algorithm{EdDSA}, AllowInternal: true, MaxAge: keysMaxAge, Logger: config.Logger, Now: config.Now,
	})
	if err != nil {
		return nil, err
	}
	v := &ServiceVerifier{service: config.Service, logger: config.Logger, keys: &serviceKeys{remote: remote, now: config.Now}}
	v.verifier, err = NewAssertionVerifier(AssertionConfig{
		Issuer: "spiffe://" + domain + "/authz", Skew: config.Skew, Now: config.Now, Keys: remote.Keys,
	})
	return v, err
}

// keysAt is what KeysURL says, where nobody can be between who could give us
// keys.
func keysAt(text string) (link, socket string, err error) {
	if path, unix := strings.CutPrefix(text, "unix:"); unix {
		if !filepath.IsAbs(path) || len(path) > maxSocketPath {
			return "", "", fmt.Errorf("is not unix: and an absolute path of up to %d bytes", maxSocketPath)
		}
		return "http://localhost/assertion-keys", path, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", fmt.Errorf("is no URL: %w", err)
	}
	if u.Scheme == "https" || isLoopback(u.Hostname()) {
		return text, "", nil
	}
	return "", "", errors.New("is neither unix:PATH, nor on loopback, nor https")
}

// maxSocketPath is what sun_path holds beside its final NUL.
const maxSocketPath = 107

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Verify is what the middleware does with the values of the header: there must
// be exactly one, an assertion for this service. The error is an *Error.
func (v *ServiceVerifier) Verify(ctx context.Context, values []string) (*Assertion, error) {
	if len(values) != 1 {
		return nil, refuse(ReasonMalformed, "%d %s headers, not one", len(values), AssertionHeader)
	}
	v.keys.freshen(ctx)
	a, err := v.verifier.Verify(values[0], v.service)
	if reason := ReasonOf(err); reason == ReasonUnknownKey || reason == ReasonKeysUnavailable {
		// Perhaps the key is new.
		v.keys.renew(ctx)
		a, err = v.verifier.Verify(values[0], v.service)
	}
	return a, err
}

// refused logs why, for operators; errors quote nothing of the assertion.
func (v *ServiceVerifier) refused(ctx context.Context, err error) {
	v.logger.LogAttrs(ctx, slog.LevelWarn, "request refused", slog.String("service", v.service), slog.Any("error", err))
}

const (
	// keysFresh is how old keys may be before they are fetched anew, and
	// keysStale before requests wait for that.
	keysFresh = 10 * time.Second
	keysStale = time.Minute
	// keysMaxAge is how long the last good keys do where none can be fetched.
	keysMaxAge = 10 * time.Minute
	// keysSoonest is the least time between fetches, whatever keys requests name.
	keysSoonest = 250 * time.Millisecond
	// keysWait bounds what a request waits for keys.
	keysWait = 2 * time.Second
)

// serviceKeys fetches keys when requests need them: one fetch at a time, for all
// of them.
type serviceKeys struct {
	remote *Remote
	now    func() time.Time

	mu    sync.Mutex
	last  keyFetch
	ended chan struct{} // closed when another fetch may begin; nil: it may
}

// keyFetch is the fetch with a number, from 1, and the end of it.
type keyFetch struct {
	number int
	done   <-chan struct{}
}

// freshen has keys fetched that are no longer fresh, and waits only for those
// that are stale.
func (k *serviceKeys) freshen(ctx context.Context) {
	age := k.now().Sub(k.remote.LastSuccess())
	if age < keysFresh {
		return
	}
	if fetch, _ := k.fetch(); age >= keysStale {
		ctx, cancel := context.WithTimeout(ctx, keysWait)
		defer cancel()
		await(ctx, fetch.done)
	}
}

// renew waits for a fetch that begins after the call. One that began before, or
// was just over, can have missed a key that signs since then: to give up because
// it is too soon for another would refuse who has done nothing wrong.
func (k *serviceKeys) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	k.mu.Lock()
	before := k.last.number
	k.mu.Unlock()
	for ctx.Err() == nil {
		fetch, next := k.fetch()
		if fetch.number > before {
			await(ctx, fetch.done)
			return
		}
		await(ctx, next)
	}
}

// fetch begins a fetch where one may begin; it returns the last one that did,
// and when the next may.
func (k *serviceKeys) fetch() (fetch keyFetch, next <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended != nil {
		return k.last, k.ended
	}
	done, ended := make(chan struct{}), make(chan struct{})
	k.last, k.ended = keyFetch{number: k.last.number + 1, done: done}, ended
	go func() {
		soonest := time.NewTimer(keysSoonest)
		// For all requests, so with none's context; the client's own timeout ends it.
		_, _ = k.remote.fetch(context.Background()) // the Remote logs it, and keeps what it had
		close(done)
		<-soonest.C
		k.mu.Lock()
		k.ended = nil
		k.mu.Unlock()
		close(ended)
	}()
	return k.last, ended
}

func await(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// passed is a verified assertion in a context, with its text to pass on.
type passed struct {
	assertion *Assertion
	text      string
}

type passedKey struct{}

// CallerFrom is who a request is from, where the middleware let it through.
func CallerFrom(ctx context.Context) (*Assertion, bool) {
	p, ok := ctx.Value(passedKey{}).(passed)
	return p.assertion, ok
}

func withCaller(ctx context.Context, a *Assertion, text string) context.Context {
	return context.WithValue(ctx, passedKey{}, passed{assertion: a, text: text})
}

// errNoCaller is the error of outbound calls that nobody stands behind.
var errNoCaller = errors.New("the call is made for nobody: use the context of a request that the ServiceVerifier let through")

// lacks is the first of the scopes that a caller does not have.
func lacks(a *Assertion, scopes []string) (string, bool) {
	for _, scope := range scopes {
		if !a.HasScope(scope) {
			return scope, true
		}
	}
	return "", false
}
