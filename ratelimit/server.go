// Package ratelimit counts requests for several gateways together: it is a
// rate-limit service (envoy.service.ratelimit.v3) with rates (GCRA) and
// calendar quotas, in this process or in Redis.
//
// The data's way: a request's descriptors → demands (which counters, what fits)
// → one step that counts in all of them or in none → outcomes → response
// headers. The limits of routes travel with the requests, from the control
// plane through Envoy; plans are this part's own configuration. Who calls is
// what the authorizer found out: requests that it denied never get here.
//
// It follows RFC 9110 §10.2.3 (Retry-After) and
// draft-ietf-httpapi-ratelimit-headers (RateLimit, RateLimit-Policy).
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Deps are what the service is given rather than makes.
type Deps struct {
	// Logger gets losses of Redis and refused callers; nil discards them.
	Logger *slog.Logger
	// Registerer takes the metrics; /metrics serves them where it is also a
	// prometheus.Gatherer. Nil: a new registry.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Identity is where the certificate for mutual TLS comes from; nil: the files
	// of Config.Identity.
	Identity serve.Source
}

// Server is the rate-limit service.
type Server struct {
	ratelimitv3.UnimplementedRateLimitServiceServer

	config    Config
	logger    *slog.Logger
	now       func() time.Time
	gatherer  prometheus.Gatherer
	metrics   *metrics
	transport credentials.TransportCredentials
	memory    *Memory
	counters  Counters
	shared    *Shared   // nil: counters are in this process alone
	fallback  *fallback // nil without shared
	draining  atomic.Bool
}

// New reads the files that a valid config names; it opens no connection and
// starts nothing.
func New(config Config, deps Deps) (*Server, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, fmt.Errorf("checking the rate-limit service's configuration: %w", err)
	}
	registry := prometheus.NewRegistry()
	s := &Server{config: config, logger: deps.Logger, now: deps.Now, gatherer: registry, memory: NewMemory(config.MaxCounters)}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if deps.Registerer == nil {
		deps.Registerer = registry
	}
	if gatherer, ok := deps.Registerer.(prometheus.Gatherer); ok {
		s.gatherer = gatherer
	}
	s.metrics = newMetrics()
	var err error
	if deps.Identity == nil {
		deps.Identity = config.Identity
	}
	if s.transport, err = serve.ServerCredentials(config.Listen, deps.Identity); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, s.register(deps.Registerer)
}

func (s *Server) open() (err error) {
	s.counters = s.memory
	if s.config.Redis == nil {
		return nil
	}
	if s.shared, err = NewShared(*s.config.Redis); err != nil {
		return err
	}
	s.fallback = &fallback{
		redis: s.shared, local: s.memory, replicas: s.config.Replicas, timeout: s.config.Redis.Timeout,
		logger: s.logger, lost: s.metrics.lost,
	}
	s.counters = s.fallback
	return nil
}

// Missing says what the service lacks. Redis is not among it: without it, the
// service does its part.
func (s *Server) Missing() []string {
	if s.draining.Load() {
		return []string{"it is shutting down"}
	}
	return nil
}

// degraded says what the service does without.
func (s *Server) degraded() []string {
	if s.fallback != nil && s.fallback.down.Load() {
		return []string{fmt.Sprintf("degraded: Redis is out of reach, each of %d services allows its part of every limit", s.config.Replicas)}
	}
	return nil
}

// Run serves until ctx ends and all of it has drained.
func (s *Server) Run(ctx context.Context) error {
	listener, err := serve.Listen(s.config.Listen)
	if err != nil {
		return fmt.Errorf("opening ratelimit.listen: %w", err)
	}
	telemetry, err := net.Listen("tcp", s.config.Telemetry)
	if err != nil {
		return errors.Join(fmt.Errorf("opening ratelimit.telemetry: %w (choose another address)", err), listener.Close())
	}
	server := grpc.NewServer(s.options()...)
	ratelimitv3.RegisterRateLimitServiceServer(server, s)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve.GRPC(ctx, listener, server) })
	group.Go(func() error { return serve.HTTP(ctx, telemetry, s.telemetry()) })
	if s.fallback != nil {
		group.Go(func() error { return s.fallback.run(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		s.draining.Store(true)
		return nil
	})
	err = group.Wait()
	if s.shared != nil {
		err = errors.Join(err, s.shared.close())
	}
	return err
}

func (s *Server) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(s.transport),
		grpc.MaxRecvMsgSize(64 << 10),
		grpc.MaxConcurrentStreams(4096),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: serve.ConnectionAge, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.intercept),
	}
}

// intercept admits the gateways of this trust domain alone: they are all that
// counts, and whoever else could would use up the quotas of others.
func (s *Server) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	caller, err := serve.Caller(ctx, s.config.LocalIdentity)
	if err != nil || !isGateway(caller, trustDomain(s.config.LocalIdentity)) {
		s.logger.Warn("caller refused", "caller", caller, "error", err)
		return nil, status.Error(codes.PermissionDenied, "the caller is no gateway of this trust domain")
	}
	return handle(ctx, request)
}

func isGateway(id, domain string) bool {
	name, ok := strings.CutPrefix(id, "spiffe://"+domain+"/gateway/")
	return ok && name != "" && !strings.Contains(name, "/")
}

// ShouldRateLimit implements ratelimitv3.RateLimitServiceServer. An error makes
// Envoy refuse the request.
func (s *Server) ShouldRateLimit(ctx context.Context, r *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	if r.GetDomain() != envoy.LimitDomain {
		return nil, status.Errorf(codes.InvalidArgument, "the domain is %.100q, not %q", r.GetDomain(), envoy.LimitDomain)
	}
	started := time.Now()
	now := s.now()
	demands, err := s.config.demands(r.GetDescriptors(), now)
	if err != nil {
		s.logger.Warn("request that cannot be counted", "error", err)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	outcomes, err := s.counters.Take(ctx, now, demands)
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	s.metrics.decided(fits(outcomes), time.Since(started))
	return respond(demands, outcomes), nil
}

func respond(demands []Demand, outcomes []Outcome) *ratelimitv3.RateLimitResponse {
	code := ratelimitv3.RateLimitResponse_OVER_LIMIT
	if fits(outcomes) {
		code = ratelimitv3.RateLimitResponse_OK
	}
	return &ratelimitv3.RateLimitResponse{OverallCode: code, ResponseHeadersToAdd: headers(demands, outcomes)}
}
