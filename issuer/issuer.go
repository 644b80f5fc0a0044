// Package issuer is the OpenID Connect provider: it logs people in, asks for
// their consent, and issues, refreshes, revokes and describes tokens.
//
// A request's way: router (paths, methods, headers) → form (strict parameters)
// → clientauth (who asks) → one file per flow (grant_*.go, authorize.go,
// revoke.go, introspect.go, userinfo.go) → store (one transaction decides and
// writes) → mint (claims, signature, verification with the gateway's own
// rules). People's pages and sessions are package login; what is remembered,
// the keys, the feed and the administration are packages store, keys, feed and
// admin.
//
// github.com/zitadel/oidc/v3 gives the messages of the protocol (discovery,
// token responses, ID-token claims, PKCE) and nothing else; message.go is the
// seam. Its HTTP servers are not used: they write to the global log, accept
// queries where the standards want bodies, and leave the redemption of codes
// to be raced.
//
// Governed by RFC 6749, 6750, 7009, 7519, 7636, 7662, 8252, 8414, 8707, 9068,
// 9207, 9700 and OpenID Connect Core and Discovery 1.0.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Deps are what the issuer works with.
type Deps struct {
	Logger *slog.Logger
	// Registerer takes the metrics; it must be a prometheus.Gatherer too, for
	// the telemetry listener shows what it gathers.
	Registerer prometheus.Registerer
	// KEK is the key-encryption key, where it does not come from the file.
	KEK *keys.KEK
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Identity is where the certificate for mutual TLS comes from; nil: the files
	// of Config.Identity.
	Identity serve.Source
}

// Issuer is the authorization server. Run makes it work.
type Issuer struct {
	config   Config
	deps     Deps
	gatherer prometheus.Gatherer
	metrics  *metrics
	// ready is set once the database and the keys are open.
	ready atomic.Bool
}

// New checks the configuration; it opens nothing yet.
func New(config Config, deps Deps) (*Issuer, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, fmt.Errorf("configuring the issuer: %w", err)
	}
	gatherer, ok := deps.Registerer.(prometheus.Gatherer)
	if !ok || deps.Logger == nil {
		return nil, errors.New("configuring the issuer: it needs a logger and a registry that gathers")
	}
	if deps.Identity == nil {
		deps.Identity = config.Identity
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering the issuer's metrics: %w", err)
	}
	return &Issuer{config: config, deps: deps, gatherer: gatherer, metrics: m}, nil
}

// Missing says what the issuer still lacks before it can issue.
func (i *Issuer) Missing() []string {
	if i.ready.Load() {
		return nil
	}
	return []string{"issuer: the database and the signing keys are not open yet"}
}

// Run opens the database and serves until ctx ends; it returns once everything
// has drained and the database is closed.
func (i *Issuer) Run(ctx context.Context) (err error) {
	listeners, err := i.listen()
	if err != nil {
		return err
	}
	defer listeners.close()
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	i.ready.Store(true)
	defer i.ready.Store(false)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keys.Run(ctx) })
	group.Go(func() error { return s.audit.journal.Run(ctx) })
	group.Go(func() error { return s.vouchers.Run(ctx) })
	group.Go(func() error { return store.NewSweeper(s.store, s.logger).Run(ctx) })
	group.Go(func() error { return s.feed.Run(ctx) })
	group.Go(func() error { return s.logouts.Run(ctx) })
	group.Go(func() error { return serve.HTTP(ctx, listeners.public, s.handler()) })
	group.Go(func() error {
		return serve.HTTP(ctx, listeners.telemetry, serve.Telemetry(i.gatherer, i.Missing))
	})
	group.Go(func() error {
		server := grpc.NewServer(grpc.Creds(listeners.feedCredentials))
		s.feed.Register(server)
		return serve.GRPC(ctx, listeners.feed, server)
	})
	group.Go(func() error {
		return serve.GRPC(ctx, listeners.admin, admin.Serve(s.admin))
	})
	i.deps.Logger.Info("issuer ready", "issuer", i.config.URL, "listen", i.config.Listen)
	return group.Wait()
}

// Administer opens the database for one piece of administration, for when no
// process runs the issuer. It fails with store.ErrLocked when one does: use its
// admin socket then.
func (i *Issuer) Administer(ctx context.Context, work func(adminv1.AdminServer) error) (err error) {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return work(s.admin)
}
