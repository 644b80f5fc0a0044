// Package backchannel tells clients of logouts: it takes the notices that the
// store entered when sessions ended and posts a logout token for each to the
// client, until it has arrived or a day has passed.
//
// Governed by OpenID Connect Back-Channel Logout 1.0.
package backchannel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

const (
	// timeout bounds one delivery; a client that takes longer has not got it.
	timeout = 5 * time.Second
	// batch is how many notices are taken up at once, parallel how many are
	// under way.
	batch, parallel = 64, 8
	// firstWait doubles with each attempt up to longestWait; after giveUp a
	// client is not told any more: its own session is long over.
	firstWait   = 5 * time.Second
	longestWait = time.Hour
	giveUp      = 24 * time.Hour
	// tokenLife is short (§2.4): a token is made for each attempt.
	tokenLife = 2 * time.Minute
)

// Store is the part of the store that holds the notices.
type Store interface {
	store.Logouts
	Client(ctx context.Context, id string) (store.Client, error)
	Changed() <-chan struct{}
}

// Sign makes a compact JWS of a typ with these claims, signed as the client's ID
// tokens are (§2.6).
type Sign func(ctx context.Context, client store.Client, typ string, claims []byte) (string, error)

// Config says to whom notices may go.
type Config struct {
	// Issuer is the iss of logout tokens.
	Issuer string
	// AllowInternal lets notices go to addresses that are not public.
	AllowInternal bool
	// Roots are the authorities of clients' servers; nil: the system's.
	Roots *x509.CertPool
}

// Deps are what a Sender works with.
type Deps struct {
	Store      Store
	Sign       Sign
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Sender delivers the notices. Run makes it work.
type Sender struct {
	config   Config
	deps     Deps
	client   *http.Client
	attempts *prometheus.CounterVec
}

// New makes a Sender; it starts nothing.
func New(c Config, d Deps) (*Sender, error) {
	s := &Sender{config: c, deps: d, client: newClient(c), attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "gatehouse", Subsystem: "issuer", Name: "backchannel_logouts_total",
		Help: "Attempts to tell clients of a logout, by result: delivered, failed, refused, given_up.",
	}, []string{"result"})}
	if err := d.Registerer.Register(s.attempts); err != nil {
		return nil, fmt.Errorf("registering the metrics of logouts: %w", err)
	}
	return s, nil
}

// newClient goes where the client's registration says and nowhere else: no
// proxy, no redirect, and no internal address unless that is meant.
func newClient(c Config) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if !c.AllowInternal {
		dialer.Control = token.OnlyPublic
	}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run delivers what is due, as it comes, until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	for {
		changed := s.deps.Store.Changed()
		pause := firstWait
		if err := s.deliverDue(ctx); err == nil {
			pause = s.untilNext(ctx)
		} else if ctx.Err() == nil {
			s.deps.Logger.Error("notices of logouts could not be read or noted", "error", err)
			changed = nil // nor at once again
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// untilNext is how long nothing is due, as far as is known.
func (s *Sender) untilNext(ctx context.Context) time.Duration {
	next, err := s.deps.Store.NextLogout(ctx)
	if err != nil {
		return firstWait
	}
	if next.IsZero() {
		return longestWait
	}
	return min(max(next.Sub(s.deps.Now()), 10*time.Millisecond), longestWait)
}

func (s *Sender) deliverDue(ctx context.Context) error {
	for ctx.Err() == nil {
		due, err := s.deps.Store.DueLogouts(ctx, batch)
		if err != nil || len(due) == 0 {
			return err
		}
		group, each := errgroup.WithContext(ctx)
		group.SetLimit(parallel)
		r := &round{sender: s, down: map[string]bool{}}
		for _, l := range inTurns(due) {
			group.Go(func() error { return r.handle(each, l) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// handle tries one notice and notes how that went; down tells that its client
// would take no other either.
func (s *Sender) handle(ctx context.Context, l store.Logout) (down bool, err error) {
	client, err := s.deps.Store.Client(ctx, l.ClientID)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && client.BackchannelLogoutURI == "":
		return false, s.deps.Store.EndLogout(ctx, l) // nobody wants to know any more
	case err != nil:
		return false, err
	}
	err = s.post(ctx, client, l)
	if ctx.Err() != nil {
		return false, ctx.Err() // interrupted: it is still due
	}
	log := s.deps.Logger.With("client_id", l.ClientID, "sid", l.SessionID, "attempt", l.Attempts+1)
	var final refused
	switch {
	case err == nil:
		s.attempts.WithLabelValues("delivered").Inc()
		log.Info("told a client of a logout")
		return false, s.deps.Store.EndLogout(ctx, l)
	case errors.As(err, &final):
		s.attempts.WithLabelValues("refused").Inc()
		log.Warn("a client refuses to be told of a logout", "error", err)
		return false, s.deps.Store.EndLogout(ctx, l)
	case s.deps.Now().Sub(l.EndedAt) >= giveUp:
		s.attempts.WithLabelValues("given_up").Inc()
		log.Error("a client could not be told of a logout, and is not tried any more", "error", err)
		return false, s.deps.Store.EndLogout(ctx, l)
	}
	s.attempts.WithLabelValues("failed").Inc()
	next := s.deps.Now().Add(wait(l.Attempts))
	log.Warn("a client could not be told of a logout yet", "error", err, "next", next)
	_, down = errors.AsType[away](err)
	return down, s.deps.Store.RetryLogout(ctx, l, next)
}

// wait grows with the attempts made before.
func wait(attempts int) time.Duration {
	if attempts > 10 {
		return longestWait
	}
	return min(firstWait<<attempts, longestWait)
}

// refused is an answer that another attempt would not change.
type refused struct{ status int }

func (r refused) Error() string { return fmt.Sprintf("the client answered %d", r.status) }

// away is why a client takes no notice at all for now.
type away struct{ error }

func (a away) Unwrap() error { return a.error }

// post sends a logout token (§2.5). The client answers 200; 400 and its like
// say that it will never take it (§2.8).
func (s *Sender) post(ctx context.Context, client store.Client, l store.Logout) error {
	signed, err := s.token(ctx, client, l)
	if err != nil {
		return err
	}
	body := url.Values{"logout_token": {signed}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BackchannelLogoutURI, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("addressing the client: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.client.Do(request)
	if err != nil {
		return away{fmt.Errorf("posting the logout token: %w", err)}
	}
	response.Body.Close()
	switch status := response.StatusCode; {
	case status == http.StatusOK || status == http.StatusNoContent:
		return nil
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return refused{status}
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return away{fmt.Errorf("the client answered %d", status)}
	default: // it may be this notice alone
		return fmt.Errorf("the client answered %d", status)
	}
}
