package controlplane

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DenyList tells which workloads were revoked.
type DenyList interface {
	// Denied are their SPIFFE ids.
	Denied() []string
	// Changed is closed once Denied is another.
	Changed() <-chan struct{}
}

// errDenied is all that a revoked workload is told.
var errDenied = status.Error(codes.PermissionDenied, "this identity was revoked")

// watchDenied follows the deny list until ctx ends.
func (s *Server) watchDenied(ctx context.Context) error {
	if s.denyList == nil {
		return nil
	}
	for {
		changed := s.denyList.Changed() // asked first, so that no change is missed
		s.deny(ordered(s.denyList.Denied()))
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// deny ends the streams of revoked workloads, and has everybody refuse them: at
// once and in no order, for here a lost request is the lesser harm.
func (s *Server) deny(denied []string) {
	s.apply.Lock()
	defer s.apply.Unlock()
	if slices.Equal(s.denied, denied) {
		return
	}
	s.logger.Warn("the revoked workloads changed", "denied", denied)
	s.denied = denied
	s.mu.Lock()
	for _, g := range s.groups {
		if slices.Contains(denied, g.identity) {
			g.close(errDenied)
		} else {
			g.open()
		}
	}
	s.mu.Unlock()
	s.heal()
	if s.plan != nil {
		s.plan = &plan{after: s.rebuilt(s.plan.after), before: s.plan.before}
		poke(s.moved)
	}
}

// heal gives each group what it has with the revoked workloads as they are now.
// A group that went back to its last good configuration, after an Envoy refused
// a later one, went back behind revocations, too.
func (s *Server) heal() {
	goals := s.goals()
	for name, healed := range s.rebuilt(goals) {
		if healed != goals[name] {
			_, keep := s.groups[name].goal()
			s.groups[name].publish(healed, keep)
		}
	}
}

// rebuilt are the same snapshots with the revoked workloads as they are now;
// those that know of them already are returned as they are.
func (s *Server) rebuilt(old map[string]*Snapshot) map[string]*Snapshot {
	built, fresh := map[*Inputs]map[string]*Snapshot{}, map[string]*Snapshot{}
	for name, snapshot := range old {
		fresh[name] = snapshot
		if slices.Equal(snapshot.in.Denied, s.denied) {
			continue
		}
		if built[snapshot.in] == nil {
			in := *snapshot.in
			in.Denied = s.denied
			groups, err := Build(in)
			if err != nil { // the same was built before
				s.logger.Error("building with the revoked workloads", "error", err)
				return old
			}
			built[snapshot.in] = groups
		}
		fresh[name] = built[snapshot.in][name]
	}
	return fresh
}
