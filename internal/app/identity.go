package app

import (
	"context"
	"fmt"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
)

// identityOf is where a part has its certificate from, or nil where it reads
// files by itself, or has none.
func (s *site) identityOf(p Part) (serve.Source, error) {
	identity, id := s.config.identity(p)
	if !identity.Set() || identity.Files() {
		return nil, nil
	}
	source, err := s.open(identity, id, p)
	if err != nil {
		return nil, fmt.Errorf("%s.identity: %w", p, err)
	}
	s.behind = append(s.behind, process{"the identity of " + string(p), source.Run})
	s.missing = append(s.missing, source.Missing)
	if identity.Enrol == "" {
		return source, nil // SPIRE's agent brings its bundle by itself
	}
	return source, s.followTrust(p, identity, source)
}

// followTrust brings a part that enrolled each new trust bundle, and who was
// revoked.
func (s *site) followTrust(p Part, identity serve.Identity, source *workload.Source) error {
	server := workload.TrustServer{Address: identity.Enrol, ID: envoy.ControlPlaneIdentity(s.config.TrustDomain)}
	trust, err := workload.NewTrust(server, source, workload.Deps{Logger: s.log(p)})
	if err != nil {
		return err
	}
	trust.Use(func(_ context.Context, m *workload.Members) error {
		source.Denied().Set(m.Denied)
		return source.Trust(m.Roots)
	})
	s.behind = append(s.behind, process{"the trust of " + string(p), trust.Run})
	return nil
}

// controlPlaneIdentity is issued by the CA in the same process, where no other
// one is configured.
func (s *site) controlPlaneIdentity() (serve.Source, error) {
	if s.config.ControlPlane.Identity.Set() {
		return s.identityOf(ControlPlane)
	}
	source := workload.NewLocal(s.authority, envoy.ControlPlaneIdentity(s.config.TrustDomain), workload.Deps{Logger: s.log(ControlPlane)})
	s.behind = append(s.behind, process{"the identity of controlplane", source.Run})
	return source, nil
}

func (s *site) open(identity serve.Identity, id string, p Part) (*workload.Source, error) {
	return workload.Open(identity, id, envoy.ControlPlaneIdentity(s.config.TrustDomain), workload.Deps{Logger: s.log(p)})
}

// station is an Envoy with the agent that keeps its identity.
type station struct {
	name   string
	envoy  *envoy.Process
	source *workload.Source // nil: the Envoy has none
	agent  *workload.Agent
}

// newStation prepares both; it starts nothing.
func (s *site) newStation(name string, config envoy.Config, source *workload.Source, telemetry, keys string) (*station, error) {
	logger := s.log(Envoy).With("node", config.Node)
	process, err := envoy.New(config, logger)
	if err != nil {
		return nil, err
	}
	st := &station{name: name, envoy: process, source: source}
	if source == nil {
		return st, nil
	}
	st.agent, err = workload.NewAgent(workload.AgentConfig{
		Socket: config.Agent, Telemetry: telemetry, Keys: keys, Trust: workload.TrustServer{Address: config.XDS, ID: config.XDSIdentity},
	}, source, workload.Deps{Logger: logger}, st.unready)
	return st, err
}

// unready says that Envoy does not serve yet.
func (st *station) unready() []string {
	if err := st.envoy.Ready(context.Background()); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// missing says what the Envoy, or its agent, lacks.
func (st *station) missing() []string {
	if st.agent != nil {
		return st.agent.Missing()
	}
	return st.unready()
}

// add has the site run the station: the agent outlives its Envoy, which starts
// once it has an identity and there is somebody to configure it.
func (s *site) add(st *station, xds string) {
	if st.agent != nil {
		s.behind = append(s.behind, process{st.name + "'s agent", st.agent.Run})
	}
	s.front = append(s.front, process{st.name, func(ctx context.Context) error { return s.keep(ctx, st, xds) }})
}

// keep runs the station's Envoy until ctx ends and it has drained.
func (s *site) keep(ctx context.Context, st *station, xds string) error {
	if st.source != nil && !s.await(ctx, st.source.Missing) {
		return nil
	}
	// Without its control plane Envoy would try again ever more slowly.
	if s.has(ControlPlane) && !s.await(ctx, gone("the control plane", xds)) {
		return nil
	}
	return st.envoy.Keep(ctx)
}
