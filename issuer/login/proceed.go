package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Begin starts a flow that the protocol's side has validated, and takes it as
// far as it goes without a page.
func (p *Pages) Begin(w http.ResponseWriter, r *http.Request, f *Flow) {
	f.begin(p.deps.Now())
	v, err := p.visitor(r)
	if err != nil {
		p.broken(w, r, err)
		return
	}
	if r.Method != http.MethodPost {
		p.proceed(w, r, f, v, false)
		return
	}
	// A POST from another site comes without our Lax cookies: look again once
	// the browser comes by GET.
	p.hold(w, r, f, PathLogin)
}

// proceed takes the flow one step on.
func (p *Pages) proceed(w http.ResponseWriter, r *http.Request, f *Flow, v visitor, answered bool) {
	step, code, scopes, err := p.next(r.Context(), f, v, answered)
	switch {
	case err != nil:
		p.broken(w, r, err)
	case step == stepLogin:
		p.hold(w, r, f, PathLogin)
	case step == stepConsent:
		p.hold(w, r, f, PathConsent)
	case step == stepCode:
		p.hold(w, r, f, PathDevice)
	case step == stepConclude:
		p.conclude(w, r, Outcome{Flow: f, Session: *v.session, Scopes: scopes}, answered)
	default:
		p.conclude(w, r, Outcome{Flow: f, Error: code}, false)
	}
}

// next gathers what the flow is judged by, and judges it.
func (p *Pages) next(ctx context.Context, f *Flow, v visitor, answered bool) (step, string, []string, error) {
	s := standing{session: v.session, answered: answered, now: p.deps.Now()}
	if v.session != nil {
		s.grantable = p.deps.Authority.Grantable(f, v.user.AllRoles)
		consent, err := p.deps.People.Consent(ctx, v.user.ID, f.ClientID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return stepRefuse, "", nil, fmt.Errorf("reading a consent: %w", err)
		}
		s.consented = consent.Scopes
	}
	what, code := next(f, s)
	return what, code, s.grantable, nil
}

// hold keeps the flow in the browser and leads to a page.
func (p *Pages) hold(w http.ResponseWriter, r *http.Request, f *Flow, path string) {
	err := p.cookies.keep(w, r, f, p.deps.Now())
	switch {
	case errors.Is(err, errTooLarge):
		p.conclude(w, r, Outcome{Flow: f, Error: "invalid_request"}, false)
	case err != nil:
		p.broken(w, r, err)
	default:
		see(w, path+"?"+url.Values{"flow": {f.ID}}.Encode())
	}
}

// conclude ends the flow and leads back to the client. remember keeps what the
// person allowed, save for a device: the next one may be another's.
func (p *Pages) conclude(w http.ResponseWriter, r *http.Request, o Outcome, remember bool) {
	if remember && !o.Flow.Device {
		if err := p.deps.People.SaveConsent(r.Context(), o.Session.UserID, o.Flow.ClientID, o.Scopes); err != nil {
			p.broken(w, r, fmt.Errorf("saving a consent: %w", err))
			return
		}
	}
	to, err := p.deps.Authority.Conclude(r.Context(), o)
	if err != nil {
		p.broken(w, r, err)
		return
	}
	p.cookies.drop(w, p.cookies.flowName(o.Flow.ID))
	p.Leave(w, r, to)
}

// flowOf is the browser's flow that a request names; where there is none, it
// answers with a page that says so.
func (p *Pages) flowOf(w http.ResponseWriter, r *http.Request, form Form) (*Flow, visitor, bool) {
	f := p.cookies.flow(r, form("flow"), p.deps.Now())
	if f == nil {
		p.over(w, r)
		return nil, visitor{}, false
	}
	v, err := p.visitor(r)
	if err != nil {
		p.broken(w, r, err)
		return nil, v, false
	}
	return f, v, true
}

func (p *Pages) over(w http.ResponseWriter, r *http.Request) {
	p.Problem(w, r, http.StatusBadRequest, "over")
}

// Problem is a page that tells a person something: the catalogue's text of this
// key, with its values in pairs of name and value.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, status int, key string, pairs ...string) {
	said := p.views.words(r, "")
	data := view{words: said, Title: said.Say(key + ".title"), Text: said.With(key, pairs...)}
	if err := p.views.render(w, status, "message", data, ""); err != nil {
		p.deps.Logger.ErrorContext(r.Context(), "rendering a page", "error", err)
		http.Error(w, data.Title, http.StatusInternalServerError)
	}
}

// broken is trouble of ours, or a client that was removed meanwhile.
func (p *Pages) broken(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, store.ErrNotFound) {
		p.over(w, r)
		return
	}
	p.deps.Logger.ErrorContext(r.Context(), "a login page could not go on", "path", r.URL.Path, "error", err)
	p.Problem(w, r, http.StatusServiceUnavailable, "broken")
}

// show renders a page of a flow.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, status int, name string, data view, f *Flow) {
	if err := p.views.render(w, status, name, data, f.RedirectURI); err != nil {
		p.broken(w, r, err)
	}
}

// clientName is what a client calls itself.
func (p *Pages) clientName(ctx context.Context, id string) (string, error) {
	if id == "" { // a device that is not known yet
		return "", nil
	}
	client, err := p.deps.People.Client(ctx, id)
	if err != nil {
		return "", fmt.Errorf("reading the client of a flow: %w", err)
	}
	if client.Name == "" {
		return client.ID, nil
	}
	return client.Name, nil
}
