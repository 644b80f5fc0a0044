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
	// keepRoots writes a pushed trust bundle down; nil: nothing is kept.
	keepRoots func([]*x509.Certificate) error
	denied    *serve.Denied
}

// newSource renews through obtain.
func newSource(obtain func(context.Context, *State) (*State, error), deps Deps) *Source {
	s := &Source{denied: serve.NewDenied()}
	s.renewer = renewer{live: &s.Live, logger: deps.Logger, now: deps.Now, obtain: obtain}
	s.run = s.renewer.Run
	return s
}

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
	before, _ := s.Current()
	s.SetRoots(roots)
	if after, _ := s.Current(); after == before || s.keepRoots == nil {
		return nil
	}
	return s.keepRoots(roots)
}
