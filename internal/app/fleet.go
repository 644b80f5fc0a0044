package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/controlplane"
	"gatehouse.dev/gatehouse/envoy"
)

// leaveWithin bounds how long a sidecar waits, once it is configured no more,
// until nobody is led to it.
const leaveWithin = time.Minute

// soonestTry and latestTry bound the wait before a sidecar that could not run is
// tried again.
const (
	soonestTry = time.Second
	latestTry  = 30 * time.Second
)

// fleet runs the sidecars of this machine, and follows the configuration in
// which there are.
type fleet struct {
	site   *site
	logger *slog.Logger
	// gone tells whether nobody is led to a service's sidecar any more.
	gone   func(service string) bool
	wanted chan controlplane.Gateway // the last word on which shall run
	first  map[string]*station

	mu    sync.Mutex
	crews map[string]*crew
}

// crew is one sidecar under way.
type crew struct {
	stop  context.CancelFunc
	ended chan struct{}
	state atomic.Int32
}

// States of a crew.
const (
	wanted  int32 = iota
	leaving       // until nobody is led to it
	let           // it drains, and comes back no more
)

func newFleet(s *site, gone func(string) bool) *fleet {
	return &fleet{
		site: s, logger: s.log(Envoy), gone: gone,
		wanted: make(chan controlplane.Gateway, 1), first: map[string]*station{}, crews: map[string]*crew{},
	}
}

// want says which shall run from now on; one caller at a time.
func (f *fleet) want(g controlplane.Gateway) {
	select {
	case <-f.wanted: // nobody has heard the last word yet
	default:
	}
	f.wanted <- g
}

// Run runs them until ctx ends and all have drained. It fails where one of those
// that it began with cannot run; one that is added later is told of.
func (f *fleet) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for service, st := range f.first {
		c, one := f.enlist(ctx, service)
		group.Go(func() error {
			defer f.discharge(service, c)
			return f.site.runStation(one, st)
		})
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case g := <-f.wanted:
				f.follow(ctx, group, g)
			}
		}
	})
	return group.Wait()
}

// follow starts what is new and lets go what is not wanted any more.
func (f *fleet) follow(ctx context.Context, group *errgroup.Group, g controlplane.Gateway) {
	services := g.LocalSidecars()
	for service, c := range f.running() {
		if !slices.Contains(services, service) && c.state.CompareAndSwap(wanted, leaving) {
			f.logger.Info("a sidecar is configured no more: it ends once nobody is led to it", "service", service)
			group.Go(func() error { f.release(ctx, service, c); return nil })
		}
	}
	for _, service := range services {
		old := f.running()[service]
		if old != nil && (old.state.Load() == wanted || old.state.CompareAndSwap(leaving, wanted)) {
			continue
		}
		c, one := f.enlist(ctx, service)
		group.Go(func() error {
			defer f.discharge(service, c)
			if old != nil {
				<-old.ended // it has the address
			}
			f.logger.Info("a sidecar is added", "service", service)
			f.insist(one, service, g)
			return nil
		})
	}
}

// insist runs one that was added until ctx ends, and tries again where it cannot
// run: a port may be taken for a moment.
func (f *fleet) insist(ctx context.Context, service string, g controlplane.Gateway) {
	for pause := soonestTry; ; pause = min(2*pause, latestTry) {
		err := f.start(ctx, service, g)
		if err == nil || ctx.Err() != nil {
			return
		}
		f.logger.Error("a sidecar that was added does not run: requests to its service are answered 503; trying again", "service", service, "error", err, "in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (f *fleet) running() map[string]*crew {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.crews)
}

func (f *fleet) start(ctx context.Context, service string, g controlplane.Gateway) error {
	var listeners []listener
	for _, l := range g.SidecarListeners() {
		if strings.HasPrefix(l.Key, "services."+service+".") {
			listeners = append(listeners, listener{"gateway." + l.Key, l.Address})
		}
	}
	if err := checkFree(listeners...); err != nil {
		return err
	}
	st, err := f.site.sidecar(service)
	if err != nil {
		return err
	}
	return f.site.runStation(ctx, st)
}

// release ends one once nobody is led to it.
func (f *fleet) release(ctx context.Context, service string, c *crew) {
	late := time.NewTimer(leaveWithin)
	defer late.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for waited := false; c.state.Load() == leaving; {
		if waited || f.gone(service) {
			if c.state.CompareAndSwap(leaving, let) {
				c.stop()
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			return
		case <-late.C:
			waited = true
		case <-look.C:
		}
	}
}

// enlist notes that a sidecar is under way.
func (f *fleet) enlist(ctx context.Context, service string) (*crew, context.Context) {
	one, stop := context.WithCancel(ctx)
	c := &crew{stop: stop, ended: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crews[service] = c
	return c, one
}

func (f *fleet) discharge(service string, c *crew) {
	c.stop()
	f.mu.Lock()
	if f.crews[service] == c {
		delete(f.crews, service)
	}
	f.mu.Unlock()
	close(c.ended)
}

// runStation runs an Envoy until ctx ends and it has drained, and its agent as
// long.
func (s *site) runStation(ctx context.Context, st *station) error {
	ctx, stopEnvoy := context.WithCancel(ctx)
	defer stopEnvoy()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var agent errgroup.Group
	agent.Go(func() error {
		defer stopEnvoy() // which has no identity without it
		return st.agent.Run(background)
	})
	err := s.keep(ctx, st, s.config.Envoy.XDS)
	stop()
	return errors.Join(agent.Wait(), err)
}

// goneFrom tells whether a control plane has no group of a service any more.
func goneFrom(groups func() []string) func(string) bool {
	return func(service string) bool { return !slices.Contains(groups(), envoy.ServiceGroup(service)) }
}
