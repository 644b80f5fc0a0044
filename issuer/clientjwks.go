package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

const (
	// clientKeysKept is how old a client's key set may be.
	clientKeysKept = time.Hour
	// clientKeysFresh is how often it is fetched, at the most rarely.
	clientKeysFresh = 5 * time.Minute
	// clientKeysPause is the least time between two fetches of one set, whatever
	// kids assertions name.
	clientKeysPause = 5 * time.Second
	// maxClientSets bounds the key sets that are kept.
	maxClientSets = 1000
	// maxClientFetches bounds the fetches under way.
	maxClientFetches = 32
)

// clientKeys are the keys of clients. Those behind a jwks_uri are fetched when
// an assertion needs them, which anybody can cause: rarely, few at once, and
// never from an address of our own network unless that is configured.
type clientKeys struct {
	internal bool
	logger   *slog.Logger
	now      func() time.Time
	slots    chan struct{}

	mu   sync.Mutex
	sets map[string]*clientSet
	// configure changes how a set is fetched; nil: not.
	configure func(*token.RemoteConfig)
}

// clientSet is a key set behind a jwks_uri.
type clientSet struct {
	remote *token.Remote

	mu           sync.Mutex
	triedAt, due time.Time
	// under is closed once the fetch under way has ended; nil: there is none.
	under chan struct{}
}

func newClientKeys(internal bool, logger *slog.Logger, now func() time.Time) *clientKeys {
	return &clientKeys{internal: internal, logger: logger, now: now, slots: make(chan struct{}, maxClientFetches), sets: map[string]*clientSet{}}
}

// of are the keys of a client, fetched anew where the one that is named is not
// among them.
func (k *clientKeys) of(ctx context.Context, p store.ClientProof, kid string) (*token.KeySet, error) {
	if p.JWKSURI == "" {
		return token.ParseKeySet(p.JWKS, algorithmsOf(p))
	}
	set, err := k.set(p)
	if err != nil {
		return nil, err
	}
	switch under, mine := set.claim(kid, k.now()); {
	case mine:
		k.fetch(ctx, set)
	case under != nil:
		select {
		case <-under:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return set.keys()
}

// claim tells whether the set is to be fetched now, by the caller (mine), or
// the caller has to wait for another who does it. Whoever names a key that is
// known waits for nobody who names others.
func (set *clientSet) claim(kid string, now time.Time) (under <-chan struct{}, mine bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	keys := set.remote.Keys()
	_, known := keys.Lookup(kid)
	switch {
	case keys != nil && now.Before(set.due) && (kid == "" || known):
		return nil, false
	case set.under != nil:
		return set.under, false
	case !set.triedAt.IsZero() && now.Sub(set.triedAt) < clientKeysPause:
		return nil, false
	}
	set.triedAt, set.under = now, make(chan struct{})
	return set.under, true
}

func (set *clientSet) keys() (*token.KeySet, error) {
	if keys := set.remote.Keys(); keys != nil {
		return keys, nil
	}
	return nil, errors.Join(errors.New("jwks_uri gave none"), set.remote.LastError())
}

// fetch fetches a set that the caller has claimed, however soon the caller is
// gone: else strangers who come and go would keep it from ever being fetched.
// Where too many are under way, what is known has to do. However it ends, a panic
// included, those who wait for it go on and its slot is free.
func (k *clientKeys) fetch(ctx context.Context, set *clientSet) {
	tried, due := k.now(), time.Time{}
	defer func() { set.release(tried, due) }()
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
		if fresh, err := set.remote.Fetch(context.WithoutCancel(ctx)); err == nil {
			due = tried.Add(min(fresh, clientKeysFresh))
		}
	default:
		tried = time.Time{}
	}
}

// release ends a fetch: when it was tried, zero for not, and when the next is
// due, zero for as before.
func (set *clientSet) release(tried, due time.Time) {
	set.mu.Lock()
	defer set.mu.Unlock()
	set.triedAt = tried
	if !due.IsZero() {
		set.due = due
	}
	close(set.under)
	set.under = nil
}

// set is the one behind a client's jwks_uri. When there are too many all are
// dropped: they are fetched again as they are needed.
func (k *clientKeys) set(p store.ClientProof) (*clientSet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := p.JWKSURI + " " + strings.Join(p.Algorithms, " ")
	if set := k.sets[name]; set != nil {
		return set, nil
	}
	config := token.RemoteConfig{
		URL: p.JWKSURI, Algorithms: algorithmsOf(p), AllowInternal: k.internal,
		MaxAge: clientKeysKept, Logger: k.logger, Now: k.now,
	}
	if k.configure != nil {
		k.configure(&config)
	}
	remote, err := token.NewRemote(config)
	if err != nil {
		return nil, fmt.Errorf("using jwks_uri: %w", err)
	}
	if len(k.sets) >= maxClientSets {
		clear(k.sets)
	}
	set := &clientSet{remote: remote}
	k.sets[name] = set
	return set, nil
}
