package token

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds on one fetch.
const (
	fetchTimeout = 10 * time.Second
	dialTimeout  = 5 * time.Second
	maxHeaders   = 16 << 10
)

// settling is how long the keys may be out of reach at the start before that is
// worth a warning: parts start in any order.
const settling = 5 * time.Second

// newClient makes a client that goes to the one address and nowhere else: no
// proxy from the environment, no redirect, no decompression.
func newClient(config RemoteConfig) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !config.AllowInternal {
		dialer.Control = OnlyPublic
	}
	dial := dialer.DialContext
	if config.Socket != "" {
		// A path that an operator wrote, and no address that others could choose.
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", config.Socket)
		}
	}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: config.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTimeout,
			MaxResponseHeaderBytes: maxHeaders,
			DisableCompression:     true,
			DisableKeepAlives:      true, // the next fetch is minutes away
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch gets the set and takes it over; it returns how long the set is fresh. A
// failure leaves the last good set in place, but for one: a set without a usable
// key replaces it, for the issuer withdrew all.
func (r *Remote) fetch(ctx context.Context) (fresh time.Duration, err error) {
	// The age counts from before the request: the answer may be as old.
	started := r.config.Now()
	r.mu.Lock()
	renewed := r.renewed
	r.mu.Unlock()
	keys, fresh, err := r.get(ctx)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && renewed != r.renewed {
		err = fmt.Errorf("fetching the JWK Set from %q: the issuer's state became another meanwhile", r.config.URL)
	}
	if err != nil {
		r.failed(err)
		return 0, err
	}
	keys = r.allowed(keys)
	r.succeeded(keys)
	r.lastErr, r.told, r.success = nil, "", started
	r.current.Store(&fetched{keys: keys, at: started})
	return fresh, nil
}

// failed notes and logs a failure, once if it repeats. The lock is held.
func (r *Remote) failed(err error) {
	now := r.config.Now()
	if r.began.IsZero() {
		r.began = now
	}
	settled := !r.success.IsZero() || now.Sub(r.began) >= settling
	if settled && r.told != err.Error() {
		r.config.Logger.Warn("the issuer's keys cannot be fetched", slog.String("url", r.config.URL), slog.Any("error", err))
		r.told = err.Error()
	}
	r.lastErr = err
	if errors.Is(err, ErrNoKeys) {
		r.current.Store(nil)
	}
}

// succeeded logs what changed. The lock is held.
func (r *Remote) succeeded(keys *KeySet) {
	f := r.current.Load()
	if f != nil && r.lastErr == nil && slices.Equal(f.keys.IDs(), keys.IDs()) && slices.Equal(f.keys.notes, keys.notes) {
		return
	}
	r.config.Logger.Info("the issuer's keys are loaded",
		slog.String("url", r.config.URL), slog.Any("keys", keys.IDs()), slog.Any("left_out", keys.notes))
}

// allowed is a set less what was dropped. The key itself is remembered beside
// its kid, under which it could come back. The lock is held.
func (r *Remote) allowed(keys *KeySet) *KeySet {
	for _, key := range keys.byID {
		if r.dropped[key.id] {
			r.dropped[key.thumbprint] = true
		}
	}
	return keys.without(func(key *Key) bool {
		return r.dropped[key.id] || r.dropped[key.thumbprint]
	})
}

func (r *Remote) get(ctx context.Context) (*KeySet, time.Duration, error) {
	text, fresh, err := r.download(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("fetching the JWK Set from %q: %w", r.config.URL, err)
	}
	keys, err := ParseKeySet(text, r.config.Algorithms)
	if err != nil {
		return nil, 0, fmt.Errorf("using the JWK Set from %q: %w", r.config.URL, err)
	}
	return keys, fresh, nil
}

func (r *Remote) download(ctx context.Context) (text []byte, fresh time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.config.URL, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the answer is %d, not 200; redirects are not followed", response.StatusCode)
	}
	// One byte too many is enough for ParseKeySet to refuse the set.
	text, err = io.ReadAll(io.LimitReader(response.Body, MaxKeySetSize+1))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the answer: %w", err)
	}
	return text, freshness(response.Header), nil
}

// freshness is max-age of Cache-Control (RFC 9111 §5.2.2.1), by which an issuer
// says how soon to come back; without one, forever.
func freshness(header http.Header) time.Duration {
	for _, line := range header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			seconds, err := strconv.ParseUint(value, 10, 31)
			if err == nil && seconds > 0 && strings.EqualFold(name, "max-age") {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return math.MaxInt64
}
