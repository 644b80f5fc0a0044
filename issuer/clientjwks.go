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
	maxClientFetches = 8
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
	// turn is held by whoever fetches.
	turn    chan struct{}
	triedAt time.Time
	due     time.Time
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
	select {
	case set.turn <- struct{}{}:
		defer func() { <-set.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !set.wants(kid, k.now()) {
		return set.keys()
	}
	return k.fetch(ctx, set)
}

// wants tells whether a set is to be fetched now.
func (set *clientSet) wants(kid string, now time.Time) bool {
	keys := set.remote.Keys()
	_, known := keys.Lookup(kid)
	wanted := keys == nil || !now.Before(set.due) || kid != "" && !known
	return wanted && (set.triedAt.IsZero() || now.Sub(set.triedAt) >= clientKeysPause)
}

func (set *clientSet) keys() (*token.KeySet, error) {
	if keys := set.remote.Keys(); keys != nil {
		return keys, nil
	}
	return nil, errors.Join(errors.New("jwks_uri gave none"), set.remote.LastError())
}

func (k *clientKeys) fetch(ctx context.Context, set *clientSet) (*token.KeySet, error) {
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	default:
		return nil, errors.New("too many key sets are being fetched")
	}
	now := k.now()
	set.triedAt = now
	fresh, err := set.remote.Fetch(ctx)
	if err == nil {
		set.due = now.Add(min(fresh, clientKeysFresh))
	}
	return set.keys()
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
	set := &clientSet{remote: remote, turn: make(chan struct{}, 1)}
	k.sets[name] = set
	return set, nil
}
