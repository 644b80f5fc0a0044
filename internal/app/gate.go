package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
)

// buildEnvoy prepares the Envoy process, and refuses to go on where it could not
// work: nothing else should be started then.
func (s *site) buildEnvoy() error {
	c := s.config
	e, err := newEnvoy(c, s.logger)
	if err != nil {
		return err
	}
	if err := s.buildAgent(); err != nil {
		return err
	}
	s.front = append(s.front,
		process{"envoy", func(ctx context.Context) error {
			// Without its control plane Envoy would try again ever more slowly.
			if !s.await(ctx, gone("the control plane", c.Envoy.XDS)) {
				return nil
			}
			return e.Run(ctx)
		}},
		process{"start", func(ctx context.Context) error { return s.announce(ctx, e) }})
	return nil
}

// RunEnvoy runs an Envoy alone, as a process beside its control plane's, until
// ctx ends and it has drained.
func RunEnvoy(ctx context.Context, c *Config, o Options) error {
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	if err := c.Prepare([]Part{Envoy}, time.Now); err != nil {
		return err
	}
	e, err := newEnvoy(c, logger)
	if err != nil {
		return err
	}
	s := &site{config: c, parts: []Part{Envoy}, options: o, logger: logger}
	if err := s.buildAgent(); err != nil {
		return err
	}
	s.front = append(s.front, process{"envoy", e.Run})
	return s.run(ctx)
}

// buildAgent keeps the Envoy's identity and hands it over, where it has one. It
// outlives the Envoy.
func (s *site) buildAgent() error {
	c := s.config.Envoy
	if !c.Identity.Set() {
		return nil
	}
	logger := s.log(Envoy)
	source, err := workload.NewFiles(c.Identity, logger)
	if err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	s.behind = append(s.behind,
		process{"identity", source.Run},
		process{"agent", func(ctx context.Context) error {
			listener, err := serve.Listen(c.Agent)
			if err != nil {
				return fmt.Errorf("envoy.agent: %w", err)
			}
			defer listener.Close()
			return workload.ServeSDS(ctx, listener, &source.Live, logger)
		}})
	return nil
}

func newEnvoy(c *Config, logger *slog.Logger) (*envoy.Process, error) {
	err := checkFree(
		listener{"gateway.listen", c.Gateway.Listen},
		listener{"gateway.redirect_listen", c.Gateway.RedirectListen},
		listener{"envoy.admin", c.Envoy.Admin},
	)
	if err != nil {
		return nil, err
	}
	return envoy.New(c.Envoy, logger.With("part", string(Envoy)))
}
