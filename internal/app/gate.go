package app

import (
	"context"
	"errors"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
)

// RunEnvoy runs an Envoy alone, as a process beside its control plane's, until
// ctx ends and it has drained.
func RunEnvoy(ctx context.Context, c *Config, o Options) error {
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	if err := c.checkEdgeIdentity(); err != nil {
		return err
	}
	if err := c.Prepare([]Part{Envoy}, time.Now); err != nil {
		return err
	}
	s := &site{config: c, parts: []Part{Envoy}, options: o, logger: logger}
	if err := checkFree(c.envoyListeners()...); err != nil {
		return err
	}
	edge, err := s.edge()
	if err != nil {
		return err
	}
	s.add(edge, c.Envoy.XDS)
	s.behind = append(s.behind, process{"certificates", s.maintain})
	return s.run(ctx)
}

// RunAgent keeps the identity of an Envoy that something else runs, until ctx
// ends.
func RunAgent(ctx context.Context, c *Config, o Options) error {
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	if !c.Envoy.Identity.Set() {
		return errors.New("envoy.identity is not set: an Envoy without an identity needs no agent")
	}
	if err := c.Prepare([]Part{Envoy}, time.Now); err != nil {
		return err
	}
	s := &site{config: c, parts: []Part{Envoy}, options: o, logger: logger}
	edge, err := s.edge()
	if err != nil {
		return err
	}
	s.front = append(s.front, process{"agent", edge.agent.Run}, process{"certificates", s.maintain})
	return s.run(ctx)
}

// buildEnvoys prepares the edge and the sidecars of this machine.
func (s *site) buildEnvoys() error {
	edge, err := s.edge()
	if err != nil {
		return err
	}
	s.add(edge, s.config.Envoy.XDS)
	unready := []serve.Missing{edge.missing}
	for _, name := range s.config.Gateway.LocalSidecars() {
		sidecar, err := s.sidecar(name)
		if err != nil {
			return err
		}
		s.fleet.first[name] = sidecar
		unready = append(unready, sidecar.missing)
	}
	s.front = append(s.front, process{"sidecars", s.fleet.Run})
	s.front = append(s.front, process{"start", func(ctx context.Context) error { return s.announce(ctx, together(unready)) }})
	return nil
}

// checkEnvoy finds out before anything starts whether Envoy could work.
func (s *site) checkEnvoy() error {
	listeners := s.config.envoyListeners()
	for _, l := range s.config.Gateway.SidecarListeners() {
		listeners = append(listeners, listener{"gateway." + l.Key, l.Address})
	}
	if err := checkFree(listeners...); err != nil {
		return err
	}
	_, err := envoy.Find(context.Background(), string(s.config.Envoy.Path))
	return err
}

// together is what any of several lacks.
func together(all []serve.Missing) serve.Missing {
	return func() (lacks []string) {
		for _, missing := range all {
			lacks = append(lacks, missing()...)
		}
		return lacks
	}
}

// edge is the Envoy that clients reach. Where the CA is in this process, it is
// also where the edge's identity comes from, unless another one is configured.
func (s *site) edge() (*station, error) {
	c := s.config.Envoy
	source, err := s.sourceOf(Envoy)
	if err != nil {
		return nil, err
	}
	return s.newStation("envoy", c, source, c.Telemetry, "")
}

// sidecar is the Envoy beside a service of this machine.
func (s *site) sidecar(service string) (*station, error) {
	c := envoy.Config{
		Path: s.config.Envoy.Path, Group: envoy.ServiceGroup(service), Node: service + "-1", Concurrency: 1,
		Admin: "unix:run/admin-" + service + ".sock", XDS: s.config.Envoy.XDS, XDSIdentity: s.config.Envoy.XDSIdentity,
	}
	c.SetDefaults(string(s.config.DataDir))
	source := workload.NewLocal(s.authority, envoy.ServiceIdentity(s.config.TrustDomain, service), workload.Deps{Logger: s.log(Envoy)})
	return s.newStation("the sidecar of "+service, c, source, "", "")
}

// sourceOf is the source of the edge's certificate, nil where it has none.
func (s *site) sourceOf(p Part) (*workload.Source, error) {
	identity, id := s.config.identity(p)
	if s.authority != nil && (!identity.Set() || identity.CA == s.config.CA()) {
		return workload.NewLocal(s.authority, id, workload.Deps{Logger: s.log(p)}), nil
	}
	if !identity.Set() {
		return nil, nil
	}
	return s.open(identity, id, p)
}

// envoyListeners are what the edge listens on.
func (c *Config) envoyListeners() []listener {
	return []listener{
		{"gateway.listen", c.Gateway.Listen},
		{"gateway.redirect_listen", c.Gateway.RedirectListen},
		{"envoy.admin", c.Envoy.Admin},
	}
}
