package token

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

// Bounds on one fetch.
const (
	fetchTimeout = 10 * time.Second
	dialTimeout  = 5 * time.Second
	maxHeaders   = 16 << 10
)

// newClient makes a client that goes to the one address and nowhere else: no
// proxy from the environment, no redirect, no decompression.
func newClient(config RemoteConfig) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !config.AllowInternal {
		dialer.Control = onlyPublic
	}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
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

// fetch gets the set and takes it over. A failure leaves the last good one in
// place; a set without a usable key replaces it, for the issuer withdrew all.
func (r *Remote) fetch(ctx context.Context) error {
	// The age counts from before the request: the answer may be as old.
	started := r.config.Now()
	keys, err := r.get(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(keys, err)
	r.lastErr = err
	switch {
	case err == nil:
		r.success = started
		r.store(keys, started)
	case errors.Is(err, ErrNoKeys):
		r.current.Store(nil)
	}
	return err
}

// store publishes a set less what was dropped. The lock is held.
func (r *Remote) store(keys *KeySet, at time.Time) {
	for _, key := range keys.byID {
		if r.dropped[key.id] {
			r.dropped[key.thumbprint] = true
		}
	}
	r.current.Store(&fetched{at: at, keys: keys.without(func(key *Key) bool {
		return r.dropped[key.id] || r.dropped[key.thumbprint]
	})})
}

// report logs what changed: not each of many equal failures or successes.
func (r *Remote) report(keys *KeySet, err error) {
	url := slog.String("url", r.config.URL)
	if err != nil {
		if r.lastErr == nil || r.lastErr.Error() != err.Error() {
			r.config.Logger.Warn("fetching the issuer's keys", url, slog.Any("error", err))
		}
		return
	}
	var before *KeySet
	if f := r.current.Load(); f != nil {
		before = f.keys
	}
	if before == nil || !slices.Equal(before.IDs(), keys.IDs()) || !slices.Equal(before.notes, keys.notes) {
		r.config.Logger.Info("the issuer's keys changed", url, slog.Any("keys", keys.IDs()), slog.Any("left_out", keys.notes))
	}
}

func (r *Remote) get(ctx context.Context) (*KeySet, error) {
	text, err := r.download(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the JWK Set from %q: %w", r.config.URL, err)
	}
	keys, err := ParseKeySet(text, r.config.Algorithms)
	if err != nil {
		return nil, fmt.Errorf("using the JWK Set from %q: %w", r.config.URL, err)
	}
	return keys, nil
}

func (r *Remote) download(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.config.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d, not 200; redirects are not followed", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, MaxKeySetSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(text) > MaxKeySetSize {
		return nil, fmt.Errorf("the answer has more than %d bytes", MaxKeySetSize)
	}
	return text, nil
}
