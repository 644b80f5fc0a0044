package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/controlplane"
	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/issuer"
	"gatehouse.dev/gatehouse/ratelimit"
	"gatehouse.dev/gatehouse/sample"
)

// build makes the parts; none runs yet. Envoy comes first: where it cannot work,
// nothing else need be tried.
func (s *site) build() error {
	if s.has(Envoy) {
		if err := s.checkEnvoy(); err != nil {
			return err
		}
	}
	if s.has(Issuer) {
		if err := s.buildIssuer(); err != nil {
			return err
		}
	}
	if s.has(Authz) {
		if err := s.buildAuthz(); err != nil {
			return err
		}
	}
	if s.has(RateLimit) {
		if err := s.buildRateLimit(); err != nil {
			return err
		}
	}
	var g gateway
	if s.has(ControlPlane) {
		server, err := s.buildControlPlane()
		if err != nil {
			return err
		}
		g = server
	}
	reloader := NewReloader(s.config, g, s.logger)
	if s.has(Envoy) {
		s.fleet = newFleet(s, goneFrom(s.groups))
		reloader.sidecars = s.fleet.want
		if err := s.buildEnvoys(); err != nil {
			return errors.Join(err, s.authority.Close())
		}
	}
	if s.options.Sample {
		s.behind = append(s.behind, process{"sample services", s.runSample})
	}
	s.front = append(s.front,
		process{"configuration", reloader.Run},
		process{"certificates", s.maintain})
	return nil
}

func (s *site) buildIssuer() error {
	if s.config.Issuer == nil {
		return fmt.Errorf("%s has no issuer: write an `issuer:` part, with its apis", s.config.Path())
	}
	identity, err := s.identityOf(Issuer)
	if err != nil {
		return err
	}
	kek, err := environmentKEK()
	if err != nil {
		return err
	}
	i, err := issuer.New(*s.config.Issuer, issuer.Deps{Logger: s.log(Issuer), Registerer: newRegistry(), Now: time.Now, Identity: identity, KEK: kek})
	if err != nil {
		return err
	}
	s.behind = append(s.behind, process{string(Issuer), i.Run})
	s.missing = append(s.missing, i.Missing)
	return nil
}

func (s *site) buildAuthz() error {
	identity, err := s.identityOf(Authz)
	if err != nil {
		return err
	}
	trust, err := s.authzTrust(identity)
	if err != nil {
		return err
	}
	a, err := authz.New(s.config.Authz, authz.Deps{Logger: s.log(Authz), Registerer: newRegistry(), Now: time.Now, Identity: identity, Trust: trust, Place: placeOf(s.config.Authz.Listen)})
	if err != nil {
		return err
	}
	s.behind = append(s.behind, process{string(Authz), a.Run}, process{"assertion keys", dropOnSignal(a.DropAssertionKeys)})
	s.missing = append(s.missing, a.Missing)
	return nil
}

func (s *site) buildRateLimit() error {
	if s.config.RateLimit == nil {
		return fmt.Errorf("%s has no rate-limit service: write a `ratelimit:` part, or a limit that is shared", s.config.Path())
	}
	identity, err := s.identityOf(RateLimit)
	if err != nil {
		return err
	}
	r, err := ratelimit.New(*s.config.RateLimit, ratelimit.Deps{Logger: s.log(RateLimit), Registerer: newRegistry(), Now: time.Now, Identity: identity})
	if err != nil {
		return err
	}
	s.behind = append(s.behind, process{string(RateLimit), r.Run})
	s.missing = append(s.missing, r.Missing, gone("the rate-limit service", s.config.RateLimit.Listen))
	return nil
}

func (s *site) buildControlPlane() (*controlplane.Server, error) {
	registry := newRegistry() // one, for one telemetry address
	authority, err := ca.New(s.config.ControlPlane.CA, ca.Deps{Logger: s.log(ControlPlane), Now: time.Now, Registerer: registry})
	if err != nil {
		return nil, err
	}
	s.authority = authority
	identity, err := s.controlPlaneIdentity()
	if err != nil {
		return nil, errors.Join(err, authority.Close())
	}
	c, err := controlplane.New(s.config.ControlPlane, s.config.Gateway, controlplane.Deps{Logger: s.log(ControlPlane), Registerer: registry, Now: time.Now, CA: authority, Identity: identity})
	if err != nil {
		return nil, errors.Join(err, authority.Close())
	}
	s.behind = append(s.behind, process{string(ControlPlane), c.Run}, process{"workload CA", authority.Run})
	s.missing = append(s.missing, c.Missing)
	s.groups = func() []string { return slices.Collect(maps.Keys(c.Status().Groups)) }
	return c, nil
}

// runSample runs services that verify with the authorizer's keys.
func (s *site) runSample(ctx context.Context) error {
	return sample.Run(ctx, sample.Config{
		TrustDomain: s.config.TrustDomain, KeysURL: "http://" + s.config.Authz.Telemetry + "/assertion-keys", Logger: s.logger.With("part", "sample"),
	})
}

// newRegistry is a part's own; what the process uses stands beside it.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func (s *site) log(p Part) *slog.Logger { return s.logger.With("part", string(p)) }
