// Package feed tells authorizers what is revoked, as soon as it is committed.
//
// A watcher gets the whole state once (or what it missed, where it names an
// epoch and sequence that the log reaches back to), then every entry of the
// log, and four times a second a heartbeat that says where the log ended at
// which time. Writers only wake watchers: what is sent is always read back from
// the log by sequence, for writers return in another order than they commit.
//
// Nothing is queued for a watcher: it reads on as fast as its peer takes what
// it sends. One whose peer stalls is dropped, and resumes when it comes back.
// The messages are described in proto/gatehouse/revocation/v1.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/store"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

const (
	// heartbeatEvery is the beat by which authorizers know that they are
	// current.
	heartbeatEvery = 250 * time.Millisecond
	// partSize bounds the entries in a message.
	partSize = 500
	// longestStall is how long a peer may take to accept one message.
	longestStall = 5 * time.Second
	// defaultWatchers is far above the gateways of one issuer.
	defaultWatchers = 256
)

// Config is who may watch what.
type Config struct {
	// Issuer is the issuer identifier.
	Issuer string
	// Clients are the SPIFFE ids that may watch.
	Clients []string
	// LocalIdentity is what peers on a Unix socket are taken for.
	LocalIdentity string
	// MaxWatchers bounds the watchers at a time; zero: 256.
	MaxWatchers int
}

// Deps are what the feed works with.
type Deps struct {
	Store      store.Revocations
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// Server serves the revocation feed.
type Server struct {
	revocationv1.UnimplementedRevocationFeedServer

	config  Config
	store   store.Revocations
	logger  *slog.Logger
	now     func() time.Time
	metrics metrics
	stall   time.Duration
	// places has room for as many watchers as there may be.
	places chan struct{}

	mu      sync.Mutex
	stopped bool
	stop    chan struct{}
	senders sync.WaitGroup
}

// New makes a Server. Its streams end when Run's context does.
func New(c Config, d Deps) (*Server, error) {
	if c.MaxWatchers == 0 {
		c.MaxWatchers = defaultWatchers
	}
	if c.Issuer == "" || len(c.Clients) == 0 || c.MaxWatchers < 0 {
		return nil, errors.New("making the revocation feed: it needs an issuer and at least one client")
	}
	s := &Server{
		config: c, store: d.Store, logger: d.Logger, now: d.Now, metrics: newMetrics(), stall: longestStall,
		places: make(chan struct{}, c.MaxWatchers), stop: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if d.Registerer != nil {
		if err := s.metrics.register(d.Registerer); err != nil {
			return nil, fmt.Errorf("registering the feed's metrics: %w", err)
		}
	}
	return s, nil
}

// Register adds the feed to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { revocationv1.RegisterRevocationFeedServer(r, s) }

// Run waits for ctx, then ends every stream, so that the gRPC server can drain,
// and returns once no sender is left.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	close(s.stop)
	s.mu.Unlock()
	s.senders.Wait()
	return nil
}

// Watch implements revocationv1.RevocationFeedServer.
func (s *Server) Watch(request *revocationv1.WatchRequest, stream grpc.ServerStreamingServer[revocationv1.WatchResponse]) error {
	caller, err := s.admit(stream.Context(), request)
	if err != nil {
		return err
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d watchers are connected already", s.config.MaxWatchers)
	}
	s.metrics.watchers.Inc()
	defer s.metrics.watchers.Dec()
	s.logger.Info("an authorizer watches the revocation feed", "caller", caller, "epoch", request.GetEpoch(), "after", request.GetAfterSequence())
	err = s.serve(stream, request)
	s.logger.Info("an authorizer left the revocation feed", "caller", caller, "reason", status.Convert(err).Message())
	return err
}

// admit says who calls, where they may.
func (s *Server) admit(ctx context.Context, request *revocationv1.WatchRequest) (caller string, err error) {
	if caller, err = serve.Caller(ctx, s.config.LocalIdentity); err != nil {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	if !slices.Contains(s.config.Clients, caller) {
		return "", status.Errorf(codes.PermissionDenied, "%q may not watch: list it under issuer.feed_clients", caller)
	}
	if request.GetIssuer() != s.config.Issuer {
		return "", status.Errorf(codes.NotFound, "this is the feed of %q, not of %q", s.config.Issuer, request.GetIssuer())
	}
	return caller, nil
}

// serve runs a watcher until its peer leaves, stalls, or the server stops. A
// sender that hangs in its peer's flow control is freed by our return.
func (s *Server) serve(stream grpc.ServerStreamingServer[revocationv1.WatchResponse], request *revocationv1.WatchRequest) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	w := &watcher{server: s, send: stream.Send, guard: newGuard(s.stall)}
	done := make(chan error, 1)
	if !s.start(func() { done <- w.run(ctx, request) }) {
		return errStopping
	}
	select {
	case err := <-done:
		return err
	case <-s.stop:
		return errStopping
	case <-w.guard.expired:
		s.metrics.dropped.Inc()
		return status.Errorf(codes.Aborted, "a message was not taken for %s: resume", s.stall)
	}
}

var errStopping = status.Error(codes.Unavailable, "the issuer is shutting down")

// start runs a sender, unless the server has stopped.
func (s *Server) start(send func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.senders.Go(send)
	return true
}
