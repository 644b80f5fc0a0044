package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// Deps are what a Server needs of its surroundings.
type Deps struct {
	// Logger gets what was issued and every refusal with its reason; nil
	// discards them.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Registerer takes the metrics; nil: a new registry.
	Registerer prometheus.Registerer
}

// Server is the workload CA: it enrols and renews workloads, and tells all of
// them what they know of each other.
type Server struct {
	config    Config
	authority *Authority
	store     *store
	trust     *trust
	own       *own
	addresses *addresses
	renewals  requests[string] // by id: each one is written down and signed
	metrics   *metrics
	logger    *slog.Logger
	now       func() time.Time
	stopping  chan struct{} // closed when streams must end
	stop      func()
}

// New opens the CA's folder and database; it starts nothing. Close, or Run that
// returns, lets go of them.
func New(config Config, deps Deps) (*Server, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
	}
	authority, err := OpenConfigured(config, deps.Now, deps.Logger)
	if err != nil {
		return nil, err
	}
	store, err := openStore(string(config.Database), deps.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config, authority: authority, store: store, logger: deps.Logger, now: deps.Now,
		addresses: newAddresses(deps.Now), renewals: requests[string]{now: deps.Now}, metrics: newMetrics(), stopping: make(chan struct{}),
	}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	if s.trust, err = newTrust(config.TrustDomain, authority, store, deps.Logger, deps.Now); err == nil {
		s.own, err = newOwn(s, envoy.ControlPlaneIdentity(config.TrustDomain))
	}
	if err == nil {
		err = s.register(deps.Registerer)
	}
	if err != nil {
		store.close()
		return nil, err
	}
	return s, nil
}

// Close lets go of the database, for a Server that is not run.
func (s *Server) Close() error { return s.store.close() }

// Run serves the admin socket and the enrolment listener until ctx ends, and
// returns once nothing of it runs any more.
func (s *Server) Run(ctx context.Context) error {
	defer s.store.close()
	admin, err := serve.Listen(s.config.AdminSocket)
	if err != nil {
		return fmt.Errorf("controlplane.ca.admin_socket: %w", err)
	}
	defer admin.Close()
	group, ctx := errgroup.WithContext(ctx)
	if s.config.Enrolment != "" {
		listener, err := net.Listen("tcp", s.config.Enrolment)
		if err != nil {
			return fmt.Errorf("controlplane.enrolment_listen: %w", err)
		}
		defer listener.Close()
		group.Go(func() error {
			return serve.GRPC(ctx, limitCrowd(listener, maxConnections, maxFromOne), s.enrolmentServer())
		})
	}
	group.Go(func() error { return serve.GRPC(ctx, admin, s.adminServer()) })
	group.Go(func() error { return s.maintain(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.stop()
		return nil
	})
	return group.Wait()
}

// adminServer is for who may read the data folder: the mode of the socket says
// so. It takes its callers for the authorizer, the one part that publishes.
func (s *Server) adminServer() *grpc.Server {
	server := grpc.NewServer(alive)
	workloadv1.RegisterWorkloadsServer(server, administration{Server: s})
	s.RegisterTrust(server, envoy.AuthzIdentity(s.config.TrustDomain))
	return server
}

// RegisterTrust adds the Trust service to a server. Its peers are known by
// their certificates; local is the SPIFFE id that peers on a Unix socket are
// taken for.
func (s *Server) RegisterTrust(server grpc.ServiceRegistrar, local string) {
	workloadv1.RegisterTrustServer(server, &trustService{Server: s, local: local})
}

const (
	lookEvery  = 10 * time.Second
	sweepEvery = 10 * time.Minute
)

// maintain keeps intermediate, own certificate and keys fresh.
func (s *Server) maintain(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	look := time.NewTicker(min(lookEvery, s.config.IntermediateLife/20))
	defer look.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-second.C:
			s.trust.refresh()
			if err := s.own.refresh(ctx); err != nil {
				s.logger.Error("renewing the CA's own certificate", "error", err)
			}
		case <-look.C:
			if err := s.Refresh(); err != nil {
				s.logger.Error("reading the CA's folder", "error", err)
			}
		case <-sweep.C:
			if err := s.store.sweep(); err != nil {
				s.logger.Error("sweeping the CA's database", "error", err)
			}
		}
	}
}

// Refresh reads the CA's folder again, renews what it is time for, and tells
// everybody of new roots.
func (s *Server) Refresh() error {
	err := s.authority.Refresh()
	s.trust.refresh()
	return err
}

// IssueTo issues an X.509-SVID to a workload of this process, for its key: the
// chain, the leaf first, without the root. The id must not be revoked.
func (s *Server) IssueTo(ctx context.Context, id string, key crypto.Signer) ([]*x509.Certificate, error) {
	parsed, err := s.member(id)
	if err != nil {
		return nil, err
	}
	csr, err := workload.NewRequest(key, id)
	if err != nil {
		return nil, err
	}
	request, err := parseRequest(csr, parsed)
	if err != nil {
		return nil, err
	}
	return s.issue(ctx, parsed, request, s.store.record)
}

// Roots are the trust bundle.
func (s *Server) Roots() []*x509.Certificate { return s.authority.Roots() }

// State is what everybody knows of each other now, not to be changed, and a
// channel that closes when there is another.
func (s *Server) State() (*workloadv1.TrustState, <-chan struct{}) { return s.trust.current() }

// Denied are the SPIFFE ids that were revoked, in their order.
func (s *Server) Denied() []string {
	state, _ := s.trust.current()
	return state.GetDenied()
}

// Changed is closed when State is another.
func (s *Server) Changed() <-chan struct{} {
	_, changed := s.trust.current()
	return changed
}

// member is a valid id of this trust domain.
func (s *Server) member(id string) (ID, error) {
	parsed, err := ParseID(id)
	if err == nil && parsed.TrustDomain() != s.config.TrustDomain {
		err = fmt.Errorf("%s is not in the trust domain %s", id, s.config.TrustDomain)
	}
	return parsed, err
}

// issue signs, and lets keep write down what was issued before it leaves.
func (s *Server) issue(ctx context.Context, id ID, request *x509.CertificateRequest, keep func(issuedRow) error) ([]*x509.Certificate, error) {
	chain, err := s.authority.Issue(ctx, id, request)
	if err != nil {
		return nil, fmt.Errorf("issuing for %s: %w", id, err)
	}
	leaf := chain[0]
	root, err := s.authority.rootOf(chain)
	if err != nil {
		return nil, fmt.Errorf("issuing for %s: %w", id, err)
	}
	fingerprint := workload.FingerprintOf(root)
	row := issuedRow{
		ID: id.String(), Serial: leaf.SerialNumber.Text(16), Issued: s.now(), NotAfter: leaf.NotAfter,
		Root: fingerprint[:], sum: sumOf(leaf),
	}
	if err := keep(row); err != nil {
		return nil, err
	}
	s.metrics.issued.Inc()
	s.logger.Info("issued a certificate", "spiffe_id", row.ID, "serial", row.Serial, "not_after", row.NotAfter)
	return chain, nil
}
