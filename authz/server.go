// Package authz decides requests for Envoy: it is an ext_authz server
// (envoy.service.auth.v3) that admits a request where its access token opens
// the route that Envoy matched.
//
// The data's way, one step a file: request → rule → credential → claims →
// revocations → decision → response. The rule is what the route demands, signed
// by the control plane and carried by Envoy, so there is no route table here;
// the keys and the revocation feed come from the issuer, the policies from
// package policies. A step that does not succeed ends in a denial: 401 or 403
// where we know, 503 where we cannot know. Zero and unknown values deny.
//
// It follows RFC 6750 (bearer tokens and challenges), RFC 9449 (DPoP), RFC 8705
// (tokens that are bound to certificates), RFC 9068 (access tokens),
// RFC 9457 (problem bodies) and Envoy's external authorization API.
package authz

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/policies"
	"gatehouse.dev/gatehouse/token"
)

// Deps are what the authorizer is given rather than makes.
type Deps struct {
	// Logger takes one event a decision; nil discards them.
	Logger *slog.Logger
	// Registerer takes the metrics; /metrics serves them where it is also a
	// prometheus.Gatherer, as a *prometheus.Registry is. Nil: a new registry.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Identity is where the certificate for mutual TLS comes from; nil: the files
	// of Config.Identity.
	Identity serve.Source
	// Trust is where assertion keys are published and workloads revoked; nil:
	// nobody shares this authorizer's keys but through its /assertion-keys.
	Trust Trust
	// Place is where this authorizer runs, the same at each start and, as a rule,
	// no other's: the keys of one that crashed there end soon. Empty: they end
	// within an hour.
	Place string
}

// Server is the authorizer.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	config     Config
	logger     *slog.Logger
	now        func() time.Time
	gatherer   prometheus.Gatherer
	metrics    *metrics
	identity   serve.Source
	transport  credentials.TransportCredentials
	rules      *rules
	issuers    *issuers
	signing    *signing
	assertions *assertions
	bindings   *bindings
	store      *policies.Store
	policies   policySource

	idPrefix string
	ids      atomic.Uint64
	draining atomic.Bool
	stopping chan struct{} // closed when what is still watched ends
	grace    time.Duration
}

const (
	// startGrace is how long connections wait at the start for an authorizer that
	// is not ready. So one that was restarted faster than Envoys notice that it
	// was away refuses nothing.
	startGrace = 2 * time.Second
	// startPoll is how often it looks whether it is.
	startPoll = 10 * time.Millisecond
	// watchDrain is how long what is watched may go on once this authorizer is
	// draining: nearly all of that time, so that most of it ends by itself.
	watchDrain = serve.Drain - 2*time.Second
)

// New reads the rule keys, the policies and the certificates that a valid
// config names; it opens no connection and starts nothing.
func New(config Config, deps Deps) (*Server, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, fmt.Errorf("checking the authorizer's configuration: %w", err)
	}
	registry := prometheus.NewRegistry()
	s := &Server{
		config: config, metrics: newMetrics(),
		logger: deps.Logger, now: deps.Now, gatherer: registry, grace: startGrace, stopping: make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if deps.Registerer == nil {
		deps.Registerer = registry
	}
	if s.identity = deps.Identity; s.identity == nil {
		s.identity = config.Identity
	}
	if gatherer, ok := deps.Registerer.(prometheus.Gatherer); ok {
		s.gatherer = gatherer
	}
	s.signing = newSigning(deps.Trust, deps.Place, config, s.logger, s.now)
	if err := s.load(deps.Registerer); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) load(registerer prometheus.Registerer) (err error) {
	var random [6]byte
	rand.Read(random[:]) // never fails
	s.idPrefix = idPrefix(random)
	if s.rules, err = newRules(s.config.RuleKeys, trustDomain(s.config.LocalIdentity)); err != nil {
		return err
	}
	if s.issuers, err = newIssuers(s.config, s.identity, s.metrics, s.logger, s.now); err != nil {
		return err
	}
	s.bindings = &bindings{skew: s.config.Skew, now: s.now, used: token.NewReplays(s.config.ProofEntries)}
	if s.assertions, err = newAssertions(s.config, s.signing, s.now); err != nil {
		return err
	}
	if s.transport, err = serve.ServerCredentials(s.config.Listen, s.identity); err != nil {
		return err
	}
	if s.store, err = policies.NewStore(string(s.config.Policies), s.logger, registerer); err != nil {
		return fmt.Errorf("loading the policies in %q: %w", s.config.Policies, err)
	}
	s.policies = s.store
	return s.register(registerer)
}

// Missing says what the authorizer lacks before it can decide for every
// issuer; empty: it is ready.
func (s *Server) Missing() []string {
	missing := s.issuers.missing()
	for _, err := range []error{s.signing.heard(), s.signing.lack()} {
		if err != nil {
			missing = append(missing, denialOf(err).cause.Error())
		}
	}
	if s.policies.Current() == nil {
		missing = append(missing, "policies")
	}
	if s.draining.Load() {
		missing = append(missing, "it is shutting down")
	}
	return missing
}

// Run serves Check, health and telemetry, and keeps keys, revocations and
// policies current, until ctx ends or a part fails; it returns once all of it
// has drained.
func (s *Server) Run(ctx context.Context) error {
	listener, err := serve.Listen(s.config.Listen)
	if err != nil {
		return fmt.Errorf("opening authz.listen: %w", err)
	}
	telemetry, err := net.Listen("tcp", s.config.Telemetry)
	if err != nil {
		return errors.Join(fmt.Errorf("opening authz.telemetry: %w (choose another address)", err), listener.Close())
	}
	return s.serve(ctx, listener, telemetry)
}

func (s *Server) serve(ctx context.Context, listener, telemetry net.Listener) error {
	// What a request needs outlives the server's drain.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	support, background := errgroup.WithContext(background)
	support.Go(func() error { return s.store.Run(background) })
	support.Go(func() error { return s.signing.Run(background) })
	s.issuers.run(background, support)

	front, ctx := errgroup.WithContext(ctx)
	defer s.endWatches(ctx)()
	front.Go(func() error {
		s.awaitReady(ctx)
		return serve.GRPC(ctx, listener, s.grpcServer())
	})
	front.Go(func() error { return serve.HTTP(ctx, telemetry, s.telemetry()) })
	front.Go(func() error {
		select {
		case <-ctx.Done():
			s.draining.Store(true)
			return nil
		case <-background.Done():
			return errors.New("a part that decisions rest on has ended")
		}
	})
	err := front.Wait()
	stop()
	return errors.Join(support.Wait(), err)
}

// endWatches ends what is watched a while after ctx. The function that it returns
// is for when nothing is any more.
func (s *Server) endWatches(ctx context.Context) (over func()) {
	late := make(chan func() bool, 1)
	stop := context.AfterFunc(ctx, func() {
		late <- time.AfterFunc(watchDrain, func() { close(s.stopping) }).Stop
	})
	return func() {
		if !stop() {
			(<-late)()
		}
	}
}

// awaitReady waits until nothing is missing, for no longer than the grace:
// whoever asks then hears what is.
func (s *Server) awaitReady(ctx context.Context) {
	late := time.NewTimer(s.grace)
	defer late.Stop()
	poll := time.NewTicker(startPoll)
	defer poll.Stop()
	for len(s.Missing()) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			return
		case <-poll.C:
		}
	}
}

// telemetry also has the public keys that assertions are verified with, for
// services of this machine.
func (s *Server) telemetry() http.Handler {
	mux := serve.Telemetry(s.gatherer, s.Missing)
	mux.HandleFunc("GET /assertion-keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(s.signing.jwks())
	})
	return mux
}

// DropAssertionKeys makes all that this authorizer signed worthless at once,
// as is wanted where its memory may have been read; the next key signs once
// everybody holds it.
func (s *Server) DropAssertionKeys() { s.signing.drop() }

func (s *Server) grpcServer() *grpc.Server {
	server := grpc.NewServer(s.serverOptions()...)
	authv3.RegisterAuthorizationServer(server, s)
	extprocv3.RegisterExternalProcessorServer(server, newWatcher(s))
	registerHealth(server, s.Missing)
	return server
}
