package workload

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/internal/serve"
)

// AgentConfig is what an agent serves and follows.
type AgentConfig struct {
	// Socket is where Envoy fetches its secrets: unix:PATH.
	Socket string
	// Telemetry is the loopback address of /assertion-keys, /metrics, /livez and
	// /readyz; empty: none.
	Telemetry string
	// Keys is where services ask for /assertion-keys whichever agent of theirs is
	// running: unix:PATH, which one takes over from the other; empty: none.
	Keys string
	// Trust is whom it watches; empty: nobody.
	Trust TrustServer
}

// Agent keeps the identity of the Envoy beside it, and what both of them know of
// the trust domain.
type Agent struct {
	config   AgentConfig
	source   *Source
	sds      *SDS
	trust    *Trust // nil: none
	logger   *slog.Logger
	now      func() time.Time
	registry *prometheus.Registry
	missing  []serve.Missing
}

// NewAgent prepares an agent; it starts nothing. Others are what else must be
// there before it is ready, as the Envoy.
func NewAgent(config AgentConfig, source *Source, deps Deps, others ...serve.Missing) (*Agent, error) {
	deps.complete()
	a := &Agent{
		config: config, source: source, sds: NewSDS(&source.Live, deps.Logger),
		logger: deps.Logger, now: deps.Now, registry: newRegistry(source),
	}
	if config.Keys != "" && config.Trust.Address == "" {
		return nil, fmt.Errorf("serving assertion keys at %s: nobody tells this agent of any", config.Keys)
	}
	a.missing = []serve.Missing{source.Missing}
	if config.Trust.Address != "" {
		trust, err := NewTrust(config.Trust, source, deps)
		if err != nil {
			return nil, err
		}
		trust.Use(a.use)
		a.trust = trust
		a.missing = append(a.missing, trust.Missing)
	}
	a.missing = append(a.missing, others...)
	return a, nil
}

// Run serves until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if a.config.Telemetry != "" {
		listener, err := serve.Listen(a.config.Telemetry)
		if err != nil {
			return err
		}
		group.Go(func() error { return serve.HTTP(ctx, listener, a.handler()) })
	}
	if a.config.Keys != "" {
		group.Go(func() error { return a.shareKeys(ctx) })
	}
	group.Go(func() error { return a.source.Run(ctx) })
	group.Go(func() error { return a.sds.Serve(ctx, a.config.Socket) })
	if a.trust != nil {
		group.Go(func() error { return a.trust.Run(ctx) })
	}
	return group.Wait()
}

// Missing says what the agent lacks; empty: it is ready.
func (a *Agent) Missing() (lacks []string) {
	for _, missing := range a.missing {
		lacks = append(lacks, missing()...)
	}
	return lacks
}

// use brings a new bundle to the Envoy before it is acknowledged. The assertion
// keys are in use as soon as they are served.
func (a *Agent) use(ctx context.Context, members *Members) error {
	if err := a.source.Trust(members.Roots); err != nil {
		return fmt.Errorf("keeping the trust bundle: %w", err)
	}
	return a.sds.Delivered(ctx)
}

func (a *Agent) handler() http.Handler {
	mux := serve.Telemetry(a.registry, a.Missing)
	mux.HandleFunc("GET /assertion-keys", a.assertionKeys)
	return mux
}

// shareKeys takes the place of whoever shared them so far, once there are some.
func (a *Agent) shareKeys(ctx context.Context) error {
	for {
		members, changed := a.trust.Current()
		if members != nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /assertion-keys", a.assertionKeys)
	return serve.HTTPInTurn(ctx, a.config.Keys, mux, a.logger)
}

// assertionKeys serves the public keys that services verify assertions with.
func (a *Agent) assertionKeys(w http.ResponseWriter, _ *http.Request) {
	var members *Members
	if a.trust != nil {
		members, _ = a.trust.Current()
	}
	if members == nil {
		http.Error(w, "the assertion keys are not there yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(members.JWKS(a.now()))
}

// newRegistry tells when the certificate ends: to be alerted on.
func newRegistry(source *Source) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_workload_certificate_end_seconds",
		Help: "When this workload's certificate ends, in Unix seconds; 0: there is none.",
	}, func() float64 {
		state, _ := source.Current()
		if state == nil {
			return 0
		}
		return float64(state.Pair.Leaf.NotAfter.Unix())
	}))
	return registry
}
