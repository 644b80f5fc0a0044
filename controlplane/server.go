// Package controlplane compiles the gateway's configuration into Envoy resources
// and brings them to every Envoy.
//
// The data's way: a Gateway → Build (pure: validate, compile, sign each route's
// rule, check) → a Snapshot → a group's goal → each Envoy's session, which sends
// what that Envoy lacks in an order that breaks nothing → ACK, or NACK and back
// to the last good Snapshot.
//
// It serves delta ADS (xDS v3) alone, to Envoys of a known identity. What an
// Envoy has already is taken from its own word, so a control plane that restarts
// disturbs nothing.
package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Deps are what a Server needs of its surroundings.
type Deps struct {
	// Logger gets connections, publications and refusals; nil discards them.
	Logger *slog.Logger
	// Registerer takes the metrics; /metrics serves them where it is also a
	// prometheus.Gatherer, as a *prometheus.Registry is. Nil: a new registry.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// KnownPolicies are the names that routes may use; nil: not checked here.
	KnownPolicies []string
	// CA is the workload CA, which somebody else runs; nil: there is none. Its deny list
	// is the default.
	CA *ca.Server
	// DenyList tells of revoked workloads; nil: the CA does, if there is one.
	DenyList DenyList
	// Identity is where the certificate for mutual TLS comes from; nil: the files
	// of Config.Identity.
	Identity serve.Source
}

// Server is the control plane.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	config      Config
	signer      *RuleSigner
	policies    []string
	ca          *ca.Server
	logger      *slog.Logger
	now         func() time.Time
	metrics     *metrics
	gatherer    prometheus.Gatherer
	credentials credentials.TransportCredentials
	denyList    DenyList
	stopping    chan struct{} // closed when streams must end
	moved       chan struct{} // poked when an Envoy has come further, or an edit has
	// atOnce publishes without the order that keeps requests alive: tests prove
	// with it that they would notice.
	atOnce bool

	apply sync.Mutex // one change of what groups shall have at a time
	plan  *plan      // the edit that is on its way to the groups; under apply
	// denied are the revoked workloads that the groups' goals know of; under apply.
	denied []string

	mu     sync.Mutex
	groups map[string]*group // by name
	edit   *Edit             // the last edit that was refused; nil: the last one was not
	ready  bool
}

// New prepares a control plane with its first gateway; it starts nothing.
func New(config Config, gateway Gateway, deps Deps) (*Server, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, err
	}
	signer, err := readRuleSigner(string(config.RuleKey))
	if err != nil {
		return nil, fmt.Errorf("reading controlplane.rule_key: %w", err)
	}
	deps.complete(config)
	credentials, err := serve.ServerCredentials(config.Listen, deps.Identity)
	if err != nil {
		return nil, fmt.Errorf("reading controlplane.identity: %w", err)
	}
	s := &Server{
		config: config, signer: signer, policies: deps.KnownPolicies, ca: deps.CA,
		logger: deps.Logger, now: deps.Now, credentials: credentials,
		groups: map[string]*group{}, denyList: deps.DenyList,
		stopping: make(chan struct{}), moved: make(chan struct{}, 1),
	}
	if s.denyList != nil {
		s.denied = ordered(s.denyList.Denied())
	}
	if s.metrics, s.gatherer, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	return s, s.Apply(context.Background(), gateway)
}

func (d *Deps) complete(config Config) {
	if d.Identity == nil {
		d.Identity = config.Identity
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Registerer == nil {
		d.Registerer = prometheus.NewRegistry()
	}
	if d.DenyList == nil && d.CA != nil {
		d.DenyList = d.CA
	}
	if d.Now == nil {
		d.Now = time.Now
	}
}

// Run serves until ctx ends, and returns once nothing of it runs any more.
func (s *Server) Run(ctx context.Context) error {
	listener, err := serve.Listen(s.config.Listen)
	if err != nil {
		return fmt.Errorf("controlplane.listen: %w", err)
	}
	defer listener.Close()
	telemetry, err := serve.Listen(s.config.Telemetry)
	if err != nil {
		return fmt.Errorf("controlplane.telemetry: %w", err)
	}
	defer telemetry.Close()
	server := grpc.NewServer(s.options()...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, s)
	if s.ca != nil {
		s.ca.RegisterTrust(server, s.config.LocalIdentity)
	}
	s.setReady(true)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve.GRPC(ctx, listener, server) })
	group.Go(func() error { return serve.HTTP(ctx, telemetry, s.telemetry()) })
	group.Go(func() error { return s.rollOut(ctx) })
	group.Go(func() error { return s.watchDenied(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.setReady(false)
		close(s.stopping)
		return nil
	})
	return group.Wait()
}

// maxPerConnection bounds the streams of one connection; an Envoy needs one.
const maxPerConnection = 100

func (s *Server) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(s.credentials),
		grpc.MaxConcurrentStreams(maxPerConnection),
		// Envoys that went away without a word are noticed…
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// …and their own pings, every 30 s, are no offence.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Apply makes a gateway the one that every Envoy shall have. An error means
// that nothing changes; bringing it to the Envoys goes on after Apply returns.
func (s *Server) Apply(_ context.Context, gateway Gateway) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	in, err := s.inputs(gateway)
	if err != nil {
		s.Refused(err)
		return err
	}
	snapshots, err := Build(in)
	if err != nil {
		s.Refused(err)
		return err
	}
	s.Refused(nil)
	s.bring(snapshots)
	return nil
}

// group is a node group; nil: there is none of this name.
func (s *Server) group(name string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups[name]
}

// Missing says what the control plane lacks before Envoys can be served.
func (s *Server) Missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		return []string{"the listener for Envoys"}
	}
	return nil
}

func (s *Server) setReady(ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = ready
}
