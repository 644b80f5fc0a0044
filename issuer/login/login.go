// Package login is what a person sees of the issuer, and their sessions in
// browsers.
//
// An authorization request that needs a person becomes a Flow: sealed into a
// cookie of the browser that brought it, so that nothing is written for
// strangers and no other browser can go on with it. The flow goes through next,
// which looks at the flow, the session and the consents and says what comes:
// the login page, the consent page, or the end. Each page is shown by GET and
// acts by POST; a POST that succeeds answers 303 (RFC 9700 §4.12).
//
// Pages work without JavaScript, may not be framed, and load nothing. What they
// say comes from the catalogue, in the language that fits the browser best; a
// theme, a folder of templates and messages, can replace any of it.
package login

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Paths of the pages.
const (
	PathLogin      = "/oauth/login"
	PathConsent    = "/oauth/consent"
	PathEndSession = "/oauth/end-session"
	PathDevice     = "/oauth/device"
	PathConnected  = "/oauth/device/connected"
	PathRefused    = "/oauth/device/refused"
)

// Authority is the protocol's side: it says what a person can give, and what a
// flow ends with.
type Authority interface {
	// Grantable are the scopes of the flow that a person with these roles can
	// give; none: there is nothing to log in for.
	Grantable(f *Flow, roles []string) []string
	// Conclude is where the browser goes at the end, with a code or an error.
	Conclude(ctx context.Context, o Outcome) (Return, error)
	// Device is what the device asks for that shows a user code, as people
	// write it; nil: none does.
	Device(ctx context.Context, userCode string) (*DeviceRequest, error)
	// Leaving reads a client's request to log the person out. What is wrong with
	// it is a Mistake.
	Leaving(ctx context.Context, form Form) (Leaving, error)
}

// DeviceRequest is what a device asks for (RFC 8628).
type DeviceRequest struct {
	// UserCode is written as the device shows it.
	UserCode  string
	ClientID  string
	Scopes    []string
	Resources []string
}

// Mistake is what an application did wrong, for the person to see.
type Mistake string

func (m Mistake) Error() string { return string(m) }

// Outcome is the end of a flow.
type Outcome struct {
	Flow *Flow
	// Error is the code for the client; empty: the person allowed Scopes.
	Error   string
	Session store.Session
	Scopes  []string
}

// Passwords verifies a password against its hash; an empty hash takes as long
// and is false.
type Passwords interface {
	Verify(ctx context.Context, hash, password string) (bool, error)
	// Upgrade is a better hash of a password that was just verified; empty: the
	// one there is will do.
	Upgrade(ctx context.Context, hash, password string) (string, error)
}

// People is the part of the store that logging in needs.
type People interface {
	store.Users
	store.Sessions
	store.Consents
	Client(ctx context.Context, id string) (store.Client, error)
}

// Config says where the pages are.
type Config struct {
	// Origin is the issuer's URL; where it is https, cookies are Secure.
	Origin string
	// SessionLifetime is how long a login lasts.
	SessionLifetime time.Duration
	// Key seals cookies: 32 bytes.
	Key []byte
	// Theme is a folder whose files stand in for those of templates/; empty:
	// none.
	Theme string
}

// Deps are what the pages work with.
type Deps struct {
	People    People
	Passwords Passwords
	Authority Authority
	// Attempted is told of every login attempt.
	Attempted func(ctx context.Context, a Attempt)
	Logger    *slog.Logger
	Now       func() time.Time
}

// Pages are the person's side of the issuer.
type Pages struct {
	config   Config
	deps     Deps
	cookies  *cookies
	views    *views
	throttle *throttle
	// guesses slows down the guessing of user codes.
	guesses *guesses
}

// New makes the pages.
func New(config Config, deps Deps) (*Pages, error) {
	cookies, err := newCookies(config.Key, config.Origin)
	if err != nil {
		return nil, fmt.Errorf("making the login pages: %w", err)
	}
	views, err := newViews(config.Theme)
	if err != nil {
		return nil, fmt.Errorf("making the login pages: %w", err)
	}
	return &Pages{config: config, deps: deps, cookies: cookies, views: views, throttle: newThrottle(deps.Now), guesses: newGuesses(deps.Now)}, nil
}

// Form gives the value of a parameter that is present at most once.
type Form func(name string) string

// Routes are the pages by path. Their forms have been parsed strictly.
func (p *Pages) Routes() map[string]func(http.ResponseWriter, *http.Request, Form) {
	return map[string]func(http.ResponseWriter, *http.Request, Form){
		PathLogin:      p.loginPage,
		PathConsent:    p.consentPage,
		PathEndSession: p.endSessionPage,
		PathDevice:     p.devicePage,
		PathConnected:  p.connectedPage,
		PathRefused:    p.refusedPage,
	}
}

// see sends the browser on with GET, whatever it came with.
func see(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}
