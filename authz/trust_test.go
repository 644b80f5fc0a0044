package authz

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// testTrust is a trust service of which the test decides what it says.
type testTrust struct {
	mu        sync.Mutex
	own       []*workloadv1.AssertionKey // as last published
	published int
	last      *workloadv1.PublishAssertionKeysRequest
	down      bool
	silent    bool // it has not been heard yet
	hold      bool
	foreign   []*workloadv1.AssertionKey
	denied    []string
	version   string
	taken     string    // the version last said to be in use
	heard     time.Time // zero: now
	changed   chan struct{}
}

func newTestTrust() *testTrust { return &testTrust{hold: true, changed: make(chan struct{})} }

// change edits and tells everybody.
func (t *testTrust) change(edit func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	edit()
	close(t.changed)
	t.changed = make(chan struct{})
}

// Heard implements Trust.
func (t *testTrust) Heard() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard.IsZero() {
		return time.Now()
	}
	return t.heard
}

// Taken implements Trust.
func (t *testTrust) Taken(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = version
}

func (t *testTrust) Current() (*workloadv1.TrustState, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.silent {
		return nil, t.changed
	}
	state := &workloadv1.TrustState{Version: t.version, Denied: t.denied, AssertionKeys: t.foreign}
	for _, k := range t.own {
		k = proto.CloneOf(k)
		k.Held = t.hold
		state.AssertionKeys = append(state.AssertionKeys, k)
	}
	return state, t.changed
}

func (t *testTrust) Publish(_ context.Context, r *workloadv1.PublishAssertionKeysRequest) error {
	t.mu.Lock()
	down := t.down
	t.mu.Unlock()
	if down {
		return errors.New("the trust service is down")
	}
	t.change(func() { t.own = r.GetKeys(); t.published++; t.last = r })
	return nil
}

func (t *testTrust) keys() []*workloadv1.AssertionKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own
}

func (t *testTrust) publications() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.published
}
