package authz

import (
	"maps"
	"sync/atomic"
)

// denyList is which workloads were revoked. Each Check reads it, and whoever
// watches a stream waits for its next state.
type denyList struct {
	current atomic.Pointer[deniedIDs]
}

// deniedIDs is one state of a denyList; it never changes.
type deniedIDs struct {
	ids     map[string]bool
	unknown string        // why it is not known who was revoked; empty: it is
	next    chan struct{} // closed once there is another state
}

func newDenyList() *denyList {
	d := &denyList{}
	d.current.Store(&deniedIDs{unknown: "the trust service has not said yet which workloads were revoked", next: make(chan struct{})})
	return d
}

// set replaces the list, forget makes it unknown; one caller at a time.
func (d *denyList) set(ids map[string]bool) { d.replace(&deniedIDs{ids: ids}) }

func (d *denyList) forget(why string) { d.replace(&deniedIDs{unknown: why}) }

func (d *denyList) replace(state *deniedIDs) {
	old := d.current.Load()
	if old.unknown == state.unknown && maps.Equal(old.ids, state.ids) {
		return
	}
	state.next = make(chan struct{})
	d.current.Store(state)
	close(old.next)
}

// missing is a denial where it is not known who was revoked, else nil.
func (s *deniedIDs) missing() error {
	if s.unknown != "" {
		return deny(ReasonTrustMissing, "%s", s.unknown)
	}
	return nil
}
