package app

import (
	"context"
	"log/slog"
	"time"

	"gatehouse.dev/gatehouse/envoy"
)

// buildEnvoy prepares the Envoy process, and refuses to go on where it could not
// work: nothing else should be started then.
func (s *site) buildEnvoy() error {
	c := s.config
	e, err := newEnvoy(c, s.logger)
	if err != nil {
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
	return e.Run(ctx)
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
