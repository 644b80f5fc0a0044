package login

import (
	"slices"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// flowLifetime is how long a person may take to log in and consent.
const flowLifetime = 15 * time.Minute

// Flow is a validated authorization request on its way through the pages. Its
// redirect URI is proven, its scopes are allowed to the client.
type Flow struct {
	ID string `json:"id"`
	// CSRF is known to this browser's cookie and to the forms made for it.
	CSRF        string `json:"csrf"`
	ClientID    string `json:"client"`
	RedirectURI string `json:"redirect"`
	State       string `json:"state,omitempty"`
	Nonce       string `json:"nonce,omitempty"`
	Challenge   string `json:"challenge"`
	// FormPost: the answer is posted to the client.
	FormPost bool `json:"form_post,omitempty"`
	// KeyThumbprint is the key that has to redeem the code (dpop_jkt); empty:
	// any.
	KeyThumbprint string   `json:"jkt,omitempty"`
	Scopes        []string `json:"scopes"`
	Resources     []string `json:"resources,omitempty"`
	// Device tells that the person connects a device (RFC 8628); UserCode is
	// the code that they typed or followed. Until they sent it, there is no
	// client.
	Device   bool   `json:"device,omitempty"`
	UserCode string `json:"user_code,omitempty"`
	// Silent is prompt=none: no page may be shown.
	Silent bool `json:"silent,omitempty"`
	// Reauthenticate is prompt=login.
	Reauthenticate bool `json:"reauthenticate,omitempty"`
	// AskConsent is prompt=consent, or a client whose identity the redirect
	// does not assure (RFC 8252 §8.6).
	AskConsent bool `json:"ask_consent,omitempty"`
	// MaxAge is how old the login may be, in seconds; nil: as old as it is.
	MaxAge *int64 `json:"max_age,omitempty"`
	// Subject is whom the client expects (id_token_hint); empty: anybody.
	Subject   string `json:"subject,omitempty"`
	LoginHint string `json:"login_hint,omitempty"`
	// UILocales are the languages that the client asks for, the best first.
	UILocales string    `json:"ui_locales,omitempty"`
	StartedAt time.Time `json:"started"`
}

// begin names the flow and starts its clock.
func (f *Flow) begin(now time.Time) {
	f.ID = store.NewID("")
	f.CSRF = store.NewToken("")
	f.StartedAt = now
}

func (f *Flow) expired(now time.Time) bool {
	return now.Before(f.StartedAt.Add(-time.Minute)) || !now.Before(f.StartedAt.Add(flowLifetime))
}

// step is what comes next in a flow. The zero step ends it as an error.
type step int

const (
	stepRefuse step = iota
	stepLogin
	stepConsent
	stepConclude
	// stepCode asks for a device's user code.
	stepCode
)

// standing is what a flow is judged by.
type standing struct {
	// session is nil where nobody is logged in.
	session   *store.Session
	grantable []string
	consented []string
	// answered tells that the person just allowed it on the consent page.
	answered bool
	now      time.Time
}

// next is what comes; the code goes to the client where the flow ends in an
// error. OpenID Connect Core §3.1.2.1 (prompt, max_age) and §3.1.2.6 (codes).
func next(f *Flow, s standing) (step, string) {
	if !f.satisfiedBy(s.session, s.now) {
		switch {
		case f.Silent:
			return stepRefuse, "login_required"
		case s.session != nil && f.since(s.session):
			// The person just logged in, but is not whom the client expects.
			return stepRefuse, "login_required"
		}
		return stepLogin, ""
	}
	if f.Device && f.ClientID == "" {
		return stepCode, ""
	}
	if len(s.grantable) == 0 {
		return stepRefuse, "access_denied"
	}
	if s.answered || !f.AskConsent && contains(s.consented, s.grantable) {
		return stepConclude, ""
	}
	if f.Silent {
		return stepRefuse, "consent_required"
	}
	return stepConsent, ""
}

// satisfiedBy tells whether a session is the login that the flow asks for.
func (f *Flow) satisfiedBy(s *store.Session, now time.Time) bool {
	switch {
	case s == nil, f.Subject != "" && s.UserID != f.Subject:
		return false
	case f.since(s):
		return true
	case f.Reauthenticate:
		return false
	default:
		return f.MaxAge == nil || now.Sub(s.AuthTime) <= time.Duration(*f.MaxAge)*time.Second
	}
}

// since tells whether the person logged in during this flow.
func (f *Flow) since(s *store.Session) bool { return !s.AuthTime.Before(f.StartedAt) }

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
