// Package keys holds the issuer's signing keys and signs with them.
//
// A key is published (next) for longer than key sets are cached, then signs
// (active), then stays published while tokens it signed may live (retired), and
// is gone. A purged key is gone at once, and the revocation log tells every
// gateway to refuse what it signed. Private keys lie in the store encrypted
// under the key-encryption key.
//
// All state is in the store; a process works with an immutable snapshot of it.
// Specs: RFC 7515 (JWS), 7517 (JWK), 7638 (the kid), 8725 §3.1 (one algorithm
// per key).
package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// lookAround is how often the store is read although nothing is due.
	lookAround = time.Minute
	// pause is how soon a change that failed is tried again.
	pause = time.Second
	// longestCache bounds how long a key set may be cached.
	longestCache = 5 * time.Minute
)

// Config is how keys are scheduled.
type Config struct {
	// Algorithms are those to sign with, each with keys of its own; empty:
	// ES256.
	Algorithms []string
	// PublishLead is how long a key is published before it signs. It must be
	// longer than verifiers cache key sets (Envoy: 10 minutes).
	PublishLead time.Duration
	// RotateEvery is how long a key signs; longer than PublishLead.
	RotateEvery time.Duration
	// Retention is the longest token life plus skew: a retired key stays
	// published that long.
	Retention time.Duration
}

// Deps are what a Ring works with.
type Deps struct {
	Store      store.Keys
	KEK        *KEK
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// Ring is the signing keys. It is safe for parallel use.
type Ring struct {
	timetable timetable
	store     store.Keys
	sealer    sealer
	logger    *slog.Logger
	now       func() time.Time

	current atomic.Pointer[snapshot]
	// changing serialises changes, so that snapshots replace one another in
	// the order of their transactions.
	changing sync.Mutex
	drafts   drafts
	kick     chan struct{}
}

// snapshot is the keys at one moment.
type snapshot struct {
	keys []store.Key
	jwks []byte
	// active has the key that signs, by algorithm.
	active map[string]*signer
}

// New makes a Ring; Load must follow before it signs.
func New(c Config, d Deps) (*Ring, error) {
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{ES256}
	}
	for _, algorithm := range c.Algorithms {
		if generators[algorithm] == nil {
			return nil, fmt.Errorf("making signing keys: the algorithm %q is not supported: use some of %v", algorithm, Algorithms())
		}
	}
	switch {
	case c.PublishLead < 0 || c.RotateEvery <= c.PublishLead || c.Retention <= 0:
		return nil, fmt.Errorf("making signing keys: a publish lead of %s, rotation every %s and a retention of %s do not fit: keys rotate less often than their publish lead", c.PublishLead, c.RotateEvery, c.Retention)
	}
	sealer, err := newSealer(d.KEK)
	if err != nil {
		return nil, err
	}
	r := &Ring{
		store: d.Store, sealer: sealer, logger: d.Logger, now: d.Now, kick: make(chan struct{}, 1),
		timetable: timetable{}, drafts: drafts{sealer: sealer, made: map[string]store.Key{}},
	}
	if r.now == nil {
		r.now = time.Now
	}
	for _, algorithm := range c.Algorithms {
		r.timetable[algorithm] = schedule{
			algorithm: algorithm, lead: c.PublishLead, every: c.RotateEvery, retention: c.Retention,
			make: func(now time.Time) (store.Key, error) { return r.drafts.make(algorithm, now) },
		}
	}
	return r, r.registerAges(d.Registerer)
}

// registerAges shows how old the key of each algorithm is.
func (r *Ring) registerAges(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for algorithm := range r.timetable {
		gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "gatehouse_issuer_signing_key_age_seconds",
			Help:        "How long the active signing key has signed, by algorithm; -1: there is none.",
			ConstLabels: prometheus.Labels{"algorithm": algorithm},
		}, func() float64 { return r.age(algorithm) })
		if err := registerer.Register(gauge); err != nil {
			return fmt.Errorf("registering key metrics: %w", err)
		}
	}
	return nil
}

func (r *Ring) age(algorithm string) float64 {
	if s := r.current.Load(); s != nil && s.active[algorithm] != nil {
		if k, ok := find(s.keys, s.active[algorithm].id); ok {
			return r.now().Sub(k.ActiveAt).Seconds()
		}
	}
	return -1
}

// Load reads the keys, makes the first one where there is none, and does what
// is due. It must succeed before the Ring signs. With another key-encryption key
// than the stored ones are sealed with it writes nothing.
func (r *Ring) Load(ctx context.Context) error {
	if r.current.Load() == nil {
		stored, err := r.store.ListKeys(ctx)
		if err != nil {
			return fmt.Errorf("reading the signing keys: %w", err)
		}
		if err := r.sealer.opens(stored); err != nil {
			return err
		}
	}
	_, err := r.change(ctx, r.timetable.due)
	return err
}

// Run keeps the keys to their schedule until ctx ends.
func (r *Ring) Run(ctx context.Context) error {
	for {
		wait := lookAround
		if err := r.Load(ctx); err != nil && ctx.Err() == nil {
			r.logger.Error("keeping the signing keys to their schedule failed; the last good ones stay", "error", err)
			wait = pause
		} else if s := r.current.Load(); s != nil {
			wait = min(wait, max(0, r.timetable.wake(s.keys).Sub(r.now())))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// change applies a change to the stored keys and adopts the outcome.
func (r *Ring) change(ctx context.Context, change func([]store.Key, time.Time) (store.KeyChange, error)) ([]store.Key, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := r.draft(ctx, change); err != nil {
		return nil, err
	}
	stored, err := r.store.UpdateKeys(ctx, func(keys []store.Key) (store.KeyChange, error) {
		return change(keys, r.now().UTC())
	})
	if err != nil {
		return nil, fmt.Errorf("changing the signing keys: %w", err)
	}
	r.drafts.used(stored)
	return stored, r.adopt(stored)
}

// draft generates the keys that a change will need, ahead of its transaction.
// Its verdict is the transaction's to give.
func (r *Ring) draft(ctx context.Context, change func([]store.Key, time.Time) (store.KeyChange, error)) error {
	keys, err := r.store.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	_, _ = change(keys, r.now().UTC())
	return nil
}

// adopt makes a snapshot of the stored keys the current one. An active key is
// unsealed only when it is another than before.
func (r *Ring) adopt(stored []store.Key) error {
	before := r.current.Load()
	s := &snapshot{keys: stored, jwks: keySet(stored), active: map[string]*signer{}}
	for algorithm := range r.timetable {
		active := sorted(of(stored, algorithm)).active
		if active == nil {
			return fmt.Errorf("adopting the signing keys: none of %s is active", algorithm)
		}
		if before != nil && before.active[algorithm].id == active.ID {
			s.active[algorithm] = before.active[algorithm]
			continue
		}
		unsealed, err := r.sealer.signer(*active)
		if err != nil {
			return err
		}
		s.active[algorithm] = unsealed
		r.logger.Info("signing with another key", "kid", active.ID, "algorithm", active.Algorithm)
	}
	r.current.Store(s)
	return nil
}

// keySet is the JWK set of all keys that tokens may be signed with (RFC 7517
// §5). The parts are JWKs that were encoded when their keys were made.
func keySet(keys []store.Key) []byte {
	var parts [][]byte
	for _, k := range keys {
		if k.State != store.KeyPurged {
			parts = append(parts, k.Public)
		}
	}
	return append(append([]byte(`{"keys":[`), bytes.Join(parts, []byte(","))...), "]}"...)
}

// Sign signs claims (a JSON object) as a compact JWS of this typ with the
// active key of an algorithm, and verifies the signature before returning it.
func (r *Ring) Sign(ctx context.Context, algorithm, typ string, claims []byte) (string, error) {
	active, input, signature, err := r.sign(ctx, algorithm, typ, claims)
	if err != nil {
		return "", err
	}
	if err := active.check(input, signature); err != nil {
		return "", err
	}
	return join(input, signature), nil
}

func (r *Ring) sign(ctx context.Context, algorithm, typ string, claims []byte) (active *signer, input, signature []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, nil, err
	}
	s := r.current.Load()
	if s == nil {
		return nil, nil, nil, errors.New("signing: the signing keys are not loaded")
	}
	if !json.Valid(claims) {
		return nil, nil, nil, errors.New("signing: the claims are not JSON")
	}
	if active = s.active[algorithm]; active == nil {
		return nil, nil, nil, fmt.Errorf("signing: there are no keys for %q, only for %v: add it to issuer.keys.algorithms", algorithm, r.Algorithms())
	}
	input, signature, err = active.compact(typ, claims)
	return active, input, signature, err
}

// Algorithms are those that the ring signs with, sorted.
func (r *Ring) Algorithms() []string { return r.timetable.algorithms() }

// JWKS is the published JWK set: next, active and retired keys. Empty before
// Load.
func (r *Ring) JWKS() []byte {
	s := r.current.Load()
	if s == nil {
		return keySet(nil)
	}
	return bytes.Clone(s.jwks)
}

// MaxAge is how long JWKS may be cached: well below the publish lead, so that
// no cache lacks a key that signs.
func (r *Ring) MaxAge() time.Duration {
	return min(r.timetable.any().lead/2, longestCache).Truncate(time.Second)
}
