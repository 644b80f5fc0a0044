package authz

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

const (
	// minRotate keeps the keys of one authorizer few: with the widest skew seven
	// that retired, the one that signs and the next, less than the ten that the
	// trust service takes.
	minRotate = 30 * time.Second
	// keyLife is how long whoever verifies keeps a key that is not published
	// again: as long as they can do without the trust service anyway.
	keyLife = time.Hour
	// publishAgain is how old a publication may be.
	publishAgain = keyLife / 4
	// publishRetry is the pause after a publication that failed, or that the
	// trust service has lost.
	publishRetry = time.Second
	// lookAgain bounds how late a key's end is noticed.
	lookAgain = 10 * time.Second
	// farewell bounds the last publication.
	farewell = 2 * time.Second
)

// signing is the life of this authorizer's assertion keys, which are in memory
// alone: next (published), active (everybody holds it, and it signs), retired
// (published until the last assertion that it signed has ended).
type signing struct {
	trust   Trust
	logger  *slog.Logger
	now     func() time.Time
	rotate  time.Duration // how long a key signs
	keep    time.Duration // how long a retired key verifies
	maxAge  time.Duration // how old what was heard of revoked workloads may be
	replica string
	place   string // where it runs
	dropped chan struct{}

	active atomic.Pointer[token.AssertionKey]
	known  atomic.Pointer[token.KeySet]
	listed atomic.Pointer[[][]byte] // known, as JWKs
	denied *denyList

	// Run's own.
	next      *token.AssertionKey
	since     time.Time // of the active key
	retired   []retiredKey
	published time.Time // the last publication that succeeded
	ends      time.Time // what it said of the keys that are not retired
	dirty     bool      // there is something to publish
	failing   bool
}

type retiredKey struct {
	key   *token.AssertionKey
	until time.Time
}

func newSigning(trust Trust, place string, config Config, logger *slog.Logger, now func() time.Time) *signing {
	s := &signing{
		trust: trust, logger: logger, now: now,
		rotate: config.Assertions.Rotate, keep: token.MaxAssertionLife + 2*config.Skew, maxAge: config.TrustMaxAge,
		replica: rand.Text(), place: place, dropped: make(chan struct{}, 1), denied: newDenyList(),
	}
	if trust == nil {
		s.trust = newAlone(now)
		s.denied.set(nil) // nobody will tell of any
	}
	return s
}

// Run keeps the keys until ctx ends. Then it says when the last one will be
// needed no more, so that what was signed outlives this process.
func (s *signing) Run(ctx context.Context) error {
	for {
		state, changed := s.trust.Current()
		if err := s.step(state); err != nil {
			return err
		}
		// First, for a publication may take its time.
		s.learn(state)
		pause := lookAgain
		if s.dirty {
			if err := s.publish(ctx, s.now().Add(keyLife)); err != nil {
				s.unpublished(err, state != nil)
				pause = publishRetry
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			s.leave(ctx)
			return nil
		case <-s.dropped:
			s.forget()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step moves the keys on.
func (s *signing) step(state *workloadv1.TrustState) (err error) {
	now := s.now()
	if s.next != nil && held(state, s.next.ID()) {
		s.activate(now)
	}
	if s.next == nil && (s.active.Load() == nil || now.Sub(s.since) >= s.rotate) {
		if s.next, err = token.NewAssertionKey(); err != nil {
			return err
		}
		s.dirty = true
	}
	for len(s.retired) > 0 && !now.Before(s.retired[0].until) {
		s.retired, s.dirty = s.retired[1:], true
	}
	age := now.Sub(s.published)
	if age >= publishAgain || age >= publishRetry && s.lost(state) {
		s.dirty = true
	}
	return nil
}

func (s *signing) activate(now time.Time) {
	if old := s.active.Load(); old != nil {
		s.retired = append(s.retired, retiredKey{key: old, until: now.Add(s.keep)})
	}
	s.logger.Info("assertion key signs", "key", s.next.ID())
	s.active.Store(s.next)
	s.next, s.since, s.dirty = nil, now, true
}

// lost tells whether a state lacks one of our keys, or would let it end sooner
// than we said: somebody at the same place takes us for gone.
func (s *signing) lost(state *workloadv1.TrustState) bool {
	for _, k := range s.own(s.ends) {
		known := find(state, k.GetId())
		if known == nil || known.GetExpiresAt().AsTime().Before(k.GetExpiresAt().AsTime()) {
			return true
		}
	}
	return false
}

// own are this authorizer's public keys; those not retired end at a time.
func (s *signing) own(ends time.Time) (keys []*workloadv1.AssertionKey) {
	add := func(k *token.AssertionKey, until time.Time) {
		if k != nil {
			keys = append(keys, &workloadv1.AssertionKey{Id: k.ID(), Jwk: k.JWK(), ExpiresAt: timestamppb.New(until)})
		}
	}
	add(s.next, ends)
	add(s.active.Load(), ends)
	for _, r := range s.retired {
		add(r.key, r.until)
	}
	return keys
}

func (s *signing) publish(ctx context.Context, ends time.Time) error {
	err := s.trust.Publish(ctx, &workloadv1.PublishAssertionKeysRequest{
		Replica: s.replica, Keys: s.own(ends), Place: s.place, PredecessorsEnd: timestamppb.New(s.now().Add(s.keep)),
	})
	if err == nil {
		s.dirty, s.failing, s.published, s.ends = false, false, s.now(), ends
	}
	return err
}

// unpublished warns once. Of a trust service that was never heard, who watches
// it warns.
func (s *signing) unpublished(err error, heard bool) {
	if heard && !s.failing {
		s.logger.Warn("the assertion keys cannot be published: trying again", "error", err)
		s.failing = true
	}
}

// leave lets the keys end once what they signed has.
func (s *signing) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	s.next = nil // it never signed
	if err := s.publish(ctx, s.now().Add(s.keep)); err != nil {
		s.logger.Info("the assertion keys' end is not published: they verify for up to an hour", "error", err)
	}
}

// learn takes over what may be verified with, and who is denied.
func (s *signing) learn(state *workloadv1.TrustState) {
	now := s.now()
	var jwks [][]byte
	for _, k := range s.own(now) {
		jwks = append(jwks, k.GetJwk())
	}
	for _, k := range state.GetAssertionKeys() {
		if k.GetExpiresAt().AsTime().After(now) {
			jwks = append(jwks, k.GetJwk())
		}
	}
	known := token.ParseAssertionKeys(jwks)
	s.known.Store(known)
	jwks = known.JWKs()
	s.listed.Store(&jwks)
	if state == nil {
		return // nothing was heard: who was revoked is not known
	}
	s.deny(state.GetDenied(), now.Sub(s.trust.Heard()))
	s.trust.Taken(state.GetVersion())
}

// deny takes over who was revoked, unless that is too old to rely on.
func (s *signing) deny(ids []string, age time.Duration) {
	if age > s.maxAge {
		if s.denied.current.Load().unknown == "" {
			s.logger.Error("nobody is let through any more: it is not known who was revoked", "since", age.Round(time.Second), "trust_max_age", s.maxAge)
		}
		s.denied.forget(fmt.Sprintf("the trust service was not heard for authz.trust_max_age, %v: it is not known which workloads were revoked", s.maxAge))
		return
	}
	denied := map[string]bool{}
	for _, id := range ids {
		denied[id] = true
	}
	s.denied.set(denied)
}

// jwks are all that verify, as a JWK Set (RFC 7517 §5).
func (s *signing) jwks() []byte {
	text := []byte(`{"keys":[`)
	if list := s.listed.Load(); list != nil {
		text = append(text, bytes.Join(*list, []byte{','})...)
	}
	return append(text, "]}"...)
}

// keys are all that verify at the moment; nil before the first are known.
func (s *signing) keys() *token.KeySet { return s.known.Load() }

// heard is what is wrong where the trust service has not said, lately, who was
// revoked; nil: nothing.
func (s *signing) heard() error { return s.denied.current.Load().missing() }

// isDenied tells whether a workload was revoked.
func (s *signing) isDenied(id string) bool { return s.denied.current.Load().ids[id] }

// drop makes all of this authorizer's keys worthless at once.
func (s *signing) drop() {
	select {
	case s.dropped <- struct{}{}:
	default:
	}
}

func (s *signing) forget() {
	s.logger.Warn("assertion keys dropped; nothing is signed until the next is held")
	s.active.Store(nil)
	s.next, s.retired, s.dirty = nil, nil, true
}

// lack is what no assertion can be made without; nil: nothing.
func (s *signing) lack() error {
	if s.active.Load() == nil {
		return deny(ReasonAssertionKey, "no assertion key may sign yet: the next one is not published, or not all who watch the trust service hold it")
	}
	return nil
}

func find(state *workloadv1.TrustState, id string) *workloadv1.AssertionKey {
	for _, k := range state.GetAssertionKeys() {
		if k.GetId() == id {
			return k
		}
	}
	return nil
}

func held(state *workloadv1.TrustState, id string) bool { return find(state, id).GetHeld() }
