package workload

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Deps are what this package is given rather than makes.
type Deps struct {
	// Logger gets each new certificate, and why there is none; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (d *Deps) complete() {
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
}

// Source is a Live that is kept fresh, from wherever it comes.
type Source struct {
	Live
	renewer renewer
	run     func(context.Context) error
	denied  *serve.Denied
}

// newSource renews through obtain.
func newSource(obtain func(context.Context, *State) (*State, error), deps Deps) *Source {
	s := &Source{denied: serve.NewDenied()}
	s.renewer = renewer{live: &s.Live, logger: deps.Logger, now: deps.Now, obtain: obtain, keepRoots: keepNone}
	s.run = s.renewer.Run
	return s
}

// keepNone writes no trust bundle down.
func keepNone([]*x509.Certificate) error { return nil }

// Run keeps the certificate fresh until ctx ends.
func (s *Source) Run(ctx context.Context) error { return s.run(ctx) }

// Missing says why there is no certificate that others would take; empty: there
// is one.
func (s *Source) Missing() []string { return s.renewer.missing() }

// Denied are who was revoked, as far as this process was told. It makes Source a
// serve.Denier.
func (s *Source) Denied() *serve.Denied { return s.denied }

// Trust takes over a trust bundle that was pushed.
func (s *Source) Trust(roots []*x509.Certificate) error {
	if !s.SetRoots(roots) {
		return nil
	}
	return s.renewer.keepRoots(roots)
}
