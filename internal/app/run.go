package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/grpclog"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Options are how to run.
type Options struct {
	// Sample runs the sample services, and makes the sample's user and clients.
	Sample bool
	// LogLevel is the least that is logged: debug, info, warn or error.
	LogLevel string
	// Out takes what is for people, Errors the log.
	Out, Errors io.Writer
}

// renewEvery is how often certificates are looked at; they are renewed weeks
// before they end.
const renewEvery = time.Hour

// Run runs the parts until ctx ends, and returns once they have drained. Envoy
// drains first, while the parts that it asks still answer; then the parts.
func Run(ctx context.Context, c *Config, parts []Part, o Options) error {
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	if err := c.Prepare(parts, time.Now); err != nil {
		return err
	}
	s := &site{config: c, parts: parts, options: o, logger: logger}
	if err := s.build(); err != nil {
		return err
	}
	return s.run(ctx)
}

func newLogger(o Options) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none: write debug, info, warn or error", o.LogLevel)
	}
	logger := slog.New(slog.NewJSONHandler(o.Errors, &slog.HandlerOptions{Level: level}))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, libraryLog{logger}))
	return logger, nil
}

// libraryLog takes the lines of gRPC's global log, so that one which follows the
// process's log reads JSON alone.
type libraryLog struct{ logger *slog.Logger }

// Write implements io.Writer: "2026/01/31 12:00:00 ERROR: [transport] …".
func (l libraryLog) Write(line []byte) (int, error) {
	_, text, found := strings.Cut(string(line), "ERROR: ")
	if !found {
		text = string(line)
	}
	l.logger.Warn("the gRPC library reports", "error", strings.TrimSpace(text))
	return len(line), nil
}

// site is what one process runs.
type site struct {
	config  *Config
	parts   []Part
	options Options
	logger  *slog.Logger

	// authority is the workload CA, where this process has the control plane.
	authority *ca.Server
	// fleet are the sidecars of this machine, where this process has the edge.
	fleet *fleet
	// groups are those that the control plane of this process has.
	groups func() []string
	// behind are the parts that Envoy asks, front what faces clients.
	behind, front []process
	missing       []serve.Missing
}

// process is something that runs until its context ends.
type process struct {
	name string
	run  func(context.Context) error
}

func (s *site) has(p Part) bool { return slices.Contains(s.parts, p) }

func (s *site) run(ctx context.Context) error {
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	ctx, stopFront := context.WithCancel(ctx)
	defer stopFront()
	behind, back := errgroup.WithContext(back)
	for _, p := range s.behind {
		behind.Go(func() error {
			defer stopFront() // nothing faces clients without what it asks
			return p.named(p.run(back))
		})
	}
	front, ctx := errgroup.WithContext(ctx)
	for _, p := range s.front {
		front.Go(func() error { return p.named(p.run(ctx)) })
	}
	context.AfterFunc(ctx, func() { s.logger.Info("draining") })
	err := front.Wait()
	stopBack()
	if cause := behind.Wait(); cause != nil && err == nil {
		err = cause
	}
	return err
}

func (p process) named(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", p.name, err)
}

// maintain renews certificates; the reloader notices those of the gateway, and
// identities are read at each handshake.
func (s *site) maintain(ctx context.Context) error {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.config.Prepare(s.parts, time.Now); err != nil {
			s.logger.Error("renewing certificates", "error", err)
		}
	}
}

// checkFree finds out before Envoy is started whether what it listens on is
// free: Envoy itself would share a port with another Envoy and say nothing.
func checkFree(listeners ...listener) error {
	for _, l := range listeners {
		if _, unix := serve.UnixPath(l.address); unix || l.address == "" {
			continue
		}
		probe, err := net.Listen("tcp", l.address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("%s: %s is in use by another process: stop that, or choose another address", l.key, l.address)
		case errors.Is(err, syscall.EACCES):
			return fmt.Errorf("%s: %s needs more rights than this process has: choose a port from 1024 up", l.key, l.address)
		case err != nil:
			return fmt.Errorf("%s: %w", l.key, err)
		}
		probe.Close()
	}
	return nil
}
