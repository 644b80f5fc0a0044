package authz

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// Trust is where the members of the trust domain learn of each other.
type Trust interface {
	// Current is the last state, nil before the first, and a channel that is
	// closed once there is another.
	Current() (*workloadv1.TrustState, <-chan struct{})
	// Heard is when that was last known to be how things are.
	Heard() time.Time
	// Taken says that a state of Current is in use, by its version.
	Taken(version string)
	// Publish replaces this authorizer's assertion keys.
	Publish(context.Context, *workloadv1.PublishAssertionKeysRequest) error
}

// alone is the Trust of an authorizer that no other verifies with: whoever
// wants its keys asks its /assertion-keys, so that a key is held once it is
// published.
type alone struct {
	now     func() time.Time
	mu      sync.Mutex
	state   *workloadv1.TrustState
	changed chan struct{}
}

func newAlone(now func() time.Time) *alone { return &alone{now: now, changed: make(chan struct{})} }

// Current implements Trust.
func (a *alone) Current() (*workloadv1.TrustState, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state, a.changed
}

// Heard implements Trust.
func (a *alone) Heard() time.Time { return a.now() }

// Taken implements Trust.
func (a *alone) Taken(string) {}

// Publish implements Trust.
func (a *alone) Publish(_ context.Context, r *workloadv1.PublishAssertionKeysRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = &workloadv1.TrustState{}
	for _, k := range r.GetKeys() {
		k = proto.CloneOf(k)
		k.Held = true
		a.state.AssertionKeys = append(a.state.AssertionKeys, k)
	}
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}
