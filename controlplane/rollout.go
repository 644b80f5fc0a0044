package controlplane

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
)

// plan is an edit on its way to all groups: make before break, between groups
// as each session does it within one Envoy. Sidecars come first and lose
// nothing yet; once they have it all, or have had time for it, the edge switches
// to them; then sidecars let go what nobody uses any more, and groups end that
// are in the configuration no longer.
type plan struct {
	after  map[string]*Snapshot
	before map[string]*Snapshot // what the groups had, to go back to
}

// settled tells whether a group's version is the one it will stay at.
func (p *plan) settled(group, version string) bool {
	return p == nil || p.after[group] != nil && p.after[group].Version == version
}

// outcome is how waiting for Envoys has ended.
type outcome int

const (
	arrived outcome = iota
	late
	refusedBy   // an Envoy refused it
	interrupted // there is another plan, or the server stops
)

// errRemoved ends the streams of a group that is configured no longer.
var errRemoved = status.Error(codes.PermissionDenied, "this node group is in the configuration no longer")

// bring makes snapshots what the groups shall have. Without sidecars there is
// nothing to order between groups, nor before the server runs.
func (s *Server) bring(after map[string]*Snapshot) {
	before := s.goals()
	if !s.running() || s.atOnce || len(after) == 1 && len(before) <= 1 {
		s.plan = nil
		for _, name := range sortedKeys(after) {
			s.ensure(name, after[name]).publish(after[name], false)
		}
		s.endOthers(after)
		return
	}
	if s.plan != nil { // what came before an edit that never arrived
		before = s.plan.before
	}
	s.plan = &plan{after: after, before: before}
	poke(s.moved)
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

func (s *Server) goals() map[string]*Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	goals := map[string]*Snapshot{}
	for name, g := range s.groups {
		goals[name], _ = g.goal()
	}
	return goals
}

// ensure is the group of a name, new where it is not there.
func (s *Server) ensure(name string, first *Snapshot) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[name]
	if g == nil {
		g = newGroup(name, s.identityOf(name), s)
		g.target = &release{snapshot: first, since: s.now()}
		if slices.Contains(s.denied, g.identity) {
			g.close(errDenied)
		}
		s.groups[name] = g
		s.logger.Info("configuration published", "group", name, "version", first.Version)
	}
	return g
}

// identityOf is the one SPIFFE id that the Envoys of a group have.
func (s *Server) identityOf(group string) string {
	if service, ok := strings.CutPrefix(group, envoy.ServiceGroup("")); ok {
		return envoy.ServiceIdentity(s.config.TrustDomain, service)
	}
	return envoy.EdgeIdentity(s.config.TrustDomain)
}

// endOthers ends the groups that are not among these.
func (s *Server) endOthers(stay map[string]*Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, g := range s.groups {
		if stay[name] == nil {
			g.close(errRemoved)
			delete(s.groups, name)
		}
	}
}

// rollOut carries out plans until ctx ends.
func (s *Server) rollOut(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.moved:
		}
		s.apply.Lock()
		s.heal()
		p := s.plan
		s.apply.Unlock()
		if p != nil {
			s.carryOut(ctx, p)
		}
	}
}

func (s *Server) carryOut(ctx context.Context, p *plan) {
	services, edge := p.services(), []string{envoy.EdgeGroup}
	for _, step := range []struct {
		groups []string
		keep   bool
	}{{services, true}, {edge, false}} {
		if !s.step(p, func() { s.publishStep(p, step.groups, step.keep) }) {
			return
		}
		switch s.await(ctx, p, step.groups) {
		case interrupted:
			return
		case refusedBy:
			s.step(p, func() { s.withdraw(p) })
			return
		case late:
			s.logger.Warn("the edit goes on without Envoys that have not taken it", "groups", step.groups)
		}
	}
	s.step(p, func() {
		for _, name := range services {
			s.groups[name].release()
		}
		s.endOthers(p.after)
		s.plan = nil
	})
}

func (p *plan) services() []string {
	return slices.DeleteFunc(sortedKeys(p.after), func(name string) bool { return name == envoy.EdgeGroup })
}

// step does one thing of a plan, if that is still the plan.
func (s *Server) step(p *plan, do func()) bool {
	s.apply.Lock()
	defer s.apply.Unlock()
	if s.plan != p {
		return false
	}
	do()
	return true
}

func (s *Server) publishStep(p *plan, groups []string, keep bool) {
	for _, name := range groups {
		s.ensure(name, p.after[name]).publish(p.after[name], keep)
	}
}

// await waits until all Envoys of the groups have what the plan has for them; a
// new group needs one at least. It does not wait for ever: a gap then is better
// than an old configuration.
func (s *Server) await(ctx context.Context, p *plan, groups []string) outcome {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		switch done, refused := s.arrived(p, groups); {
		case refused:
			return refusedBy
		case done:
			return arrived
		}
		select {
		case <-ctx.Done():
			return interrupted
		case <-timeout.C:
			return late
		case <-s.moved:
			if !s.step(p, s.heal) {
				poke(s.moved) // for the other plan
				return interrupted
			}
		}
	}
}

func (s *Server) arrived(p *plan, groups []string) (done, refused bool) {
	done = true
	for _, name := range groups {
		g := s.group(name)
		if g == nil {
			continue
		}
		all, some, no := g.progress(p.after[name])
		done = done && all && (some || p.before[name] != nil)
		refused = refused || no
	}
	return done, refused
}

// withdraw goes back to what was before an edit that an Envoy refused.
func (s *Server) withdraw(p *plan) {
	s.plan = nil
	for name, snapshot := range s.rebuilt(p.before) {
		if g := s.groups[name]; g != nil && !g.isRefused() {
			g.publish(snapshot, false)
		}
	}
	s.endOthers(p.before)
}
