package ca

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

const (
	// comeBack is how long a watcher that went away without a key is still
	// waited for: a sidecar whose connection broke goes on verifying.
	comeBack = 10 * time.Second
	// holdAtMost is how long one watcher may keep a key from signing. It is no less
	// than it takes to find that a peer is gone (40 seconds of keepalive) and to
	// wait until it comes back, so that it is reached only by one that lives and
	// does not answer.
	holdAtMost = time.Minute
	// maxWatchers bounds the memory, and maxOfOne what one id may have of it: a
	// service's replicas share one, and none that was taken over may leave the
	// others without.
	maxWatchers = 20000
	maxOfOne    = 2000
)

// trust is what everybody knows of each other, and who has taken it into use.
type trust struct {
	trustDomain string
	authority   *Authority
	store       *store
	logger      *slog.Logger
	now         func() time.Time

	mu       sync.Mutex
	state    *workloadv1.TrustState // never changed, only replaced
	changed  chan struct{}
	watchers map[*watcher]bool
	count    map[string]int // of them, by id
	leavers  []leaver
}

// watcher is one stream. Its fields are guarded by trust.mu.
type watcher struct {
	id   string
	sent []*workloadv1.TrustState // the last few, the newest last
	// uses is the state that it said it uses; nil: none yet.
	uses *workloadv1.TrustState
	// late: it has kept a key from signing for as long as it may, and nobody waits
	// for it until it answers.
	late bool
}

// leaver is a watcher that went away, or was there when the last process ended.
type leaver struct {
	id    string
	uses  *workloadv1.TrustState
	until time.Time
}

func newTrust(trustDomain string, authority *Authority, store *store, logger *slog.Logger, now func() time.Time) (*trust, error) {
	t := &trust{
		trustDomain: trustDomain, authority: authority, store: store, logger: logger, now: now,
		changed: make(chan struct{}), watchers: map[*watcher]bool{}, count: map[string]int{},
	}
	ids, err := store.watchers()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		t.leavers = append(t.leavers, leaver{id: id, until: now().Add(comeBack)})
	}
	return t, t.rebuild()
}

func (t *trust) current() (*workloadv1.TrustState, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.changed
}

// refresh is rebuild for those who cannot do anything about an error: what was
// known stays.
func (t *trust) refresh() {
	if err := t.rebuild(); err != nil {
		t.logger.Error("reading what is trusted", "error", err)
	}
}

// rebuild makes the state anew and tells everybody where it is another.
func (t *trust) rebuild() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := &workloadv1.TrustState{}
	err := t.store.workloads(func(id string, row workloadRow) {
		if !row.Revoked.IsZero() {
			state.Denied = append(state.Denied, id)
		}
	})
	if err != nil {
		return err
	}
	if state.AssertionKeys, err = t.assertionKeys(); err != nil {
		return err
	}
	if state.Bundle, err = t.bundle(); err != nil {
		return err
	}
	if state.Version, err = versionOf(state); err != nil {
		return err
	}
	if t.state == nil || !proto.Equal(state, t.state) {
		t.state = state
		close(t.changed)
		t.changed = make(chan struct{})
	}
	return nil
}

func (t *trust) bundle() (*workloadv1.Bundle, error) {
	b := &workloadv1.Bundle{TrustDomain: t.trustDomain}
	sum := sha256.New()
	for _, c := range t.authority.Roots() {
		b.Roots = append(b.Roots, c.Raw)
		sum.Write(c.Raw)
	}
	sequence, err := t.store.sequence(sum.Sum(nil))
	b.Sequence = sequence
	return b, err
}

// versionOf is the digest of everything but who holds what.
func versionOf(state *workloadv1.TrustState) (string, error) {
	plain := proto.CloneOf(state)
	for _, k := range plain.GetAssertionKeys() {
		k.Held = false
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(plain)
	if err != nil {
		return "", fmt.Errorf("encoding the state of trust: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// assertionKeys are those that have not ended, one of each id, in the order of
// their ids. What is held now is written down: it stays held.
func (t *trust) assertionKeys() ([]*workloadv1.AssertionKey, error) {
	rows, err := t.store.keys()
	if err != nil {
		return nil, err
	}
	byID, now := map[string]*workloadv1.AssertionKey{}, t.now()
	var held []string
	for _, k := range rows {
		if !now.Before(k.Expires) {
			continue
		}
		if !k.Held && t.holds(k.ID, k.Published) {
			k.Held = true
			held = append(held, k.ID)
		}
		if known := byID[k.ID]; known == nil || known.GetExpiresAt().AsTime().Before(k.Expires) {
			byID[k.ID] = &workloadv1.AssertionKey{Id: k.ID, Jwk: k.JWK, ExpiresAt: timestamppb.New(k.Expires), Held: k.Held}
		}
	}
	if err := t.store.hold(held); err != nil {
		return nil, err
	}
	var keys []*workloadv1.AssertionKey
	for _, k := range byID {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y *workloadv1.AssertionKey) int { return strings.Compare(x.GetId(), y.GetId()) })
	return keys, nil
}

// holds tells whether everybody who watches, or did a moment ago, has a key in
// use. One that says nothing cannot keep it from signing for ever, and the keys
// after it not at all.
func (t *trust) holds(key string, published time.Time) bool {
	now := t.now()
	late := now.After(published.Add(holdAtMost))
	for w := range t.watchers {
		if w.late || has(w.uses, key) {
			continue
		}
		if !late {
			return false
		}
		w.late = true
		t.logger.Warn("an assertion key may sign though a watcher has not said that it holds it", "key", key, "watcher", w.id)
	}
	t.forgetLeavers()
	return late || !slices.ContainsFunc(t.leavers, func(l leaver) bool { return !has(l.uses, key) })
}

func (t *trust) forgetLeavers() {
	now := t.now()
	t.leavers = slices.DeleteFunc(t.leavers, func(l leaver) bool { return !now.Before(l.until) })
}

func has(state *workloadv1.TrustState, key string) bool {
	return slices.ContainsFunc(state.GetAssertionKeys(), func(k *workloadv1.AssertionKey) bool { return k.GetId() == key })
}

// watching is how many streams there are.
func (t *trust) watching() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.watchers)
}

// behind are those who watch and do not use the present state.
func (t *trust) behind() (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watchers {
		if w.uses.GetVersion() != t.state.GetVersion() {
			ids = append(ids, w.id)
		}
	}
	now := t.now()
	for _, l := range t.leavers {
		if now.Before(l.until) && l.uses.GetVersion() != t.state.GetVersion() {
			ids = append(ids, l.id)
		}
	}
	slices.Sort(ids)
	return ids
}
