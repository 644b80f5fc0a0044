package login

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Leaving is a validated request to log out (OpenID Connect RP-Initiated Logout
// §2); its zero value is a person who came by themselves.
type Leaving struct {
	// Client is the application's name; empty: none asks.
	Client string
	// Location is where the browser goes afterwards, proven and with the state;
	// empty: nowhere.
	Location string
	// SessionID is that of the id_token_hint. Whoever can show an ID token of
	// the browser's own session need not be asked whether they mean it.
	SessionID string
}

// leavingParameters go through the form, and are validated again after it.
var leavingParameters = []string{"client_id", "id_token_hint", "post_logout_redirect_uri", "state", "ui_locales"}

// endSessionPage logs a person out of the issuer. It asks, unless the client
// proves that it knows the session: another site must not be able to log people
// out. Without a proven redirect URI it leads nowhere.
func (p *Pages) endSessionPage(w http.ResponseWriter, r *http.Request, form Form) {
	leaving, err := p.deps.Authority.Leaving(r.Context(), form)
	var mistake Mistake
	if errors.As(err, &mistake) {
		p.Problem(w, r, http.StatusBadRequest, "request", "mistake", string(mistake))
		return
	}
	v, ours := visitor{}, error(nil)
	if err == nil {
		v, ours = p.visitor(r)
	}
	switch {
	case err != nil || ours != nil:
		p.broken(w, r, errors.Join(err, ours))
	case v.session == nil && r.Method == http.MethodPost && !fromOurPage(r, p.config.Origin):
		p.comeAgain(w, r, form, leaving)
	case v.session == nil:
		p.ended(w, r, leaving)
	case leaving.SessionID == v.session.ID:
		p.end(w, r, v, leaving)
	case r.Method == http.MethodPost && form("csrf") != "":
		p.confirmed(w, r, form, v, leaving)
	default:
		p.showEnd(w, r, form, v, leaving)
	}
}

// comeAgain has the browser send another site's form once more from a page of
// ours: it sent no Lax cookies with it, so whether somebody is logged in is not
// known yet, and the session would live on.
func (p *Pages) comeAgain(w http.ResponseWriter, r *http.Request, form Form, leaving Leaving) {
	fields := url.Values{}
	for _, name := range leavingParameters {
		if value := form(name); value != "" {
			fields.Set(name, value)
		}
	}
	to := Return{Location: p.config.Origin + PathEndSession, Fields: fields}
	p.post(w, r, to, " 'self'"+formTarget(leaving.Location))
}

func (p *Pages) showEnd(w http.ResponseWriter, r *http.Request, form Form, v visitor, leaving Leaving) {
	said := p.views.words(r, form("ui_locales"))
	data := view{words: said, Title: said.Say("end.title"), Account: string(v.user.Login), Client: leaving.Client, CSRF: endToken(p.secret(r))}
	for _, name := range leavingParameters {
		if value := form(name); value != "" {
			data.Hidden = append(data.Hidden, hidden{name, value})
		}
	}
	if err := p.views.render(w, http.StatusOK, "end", data, leaving.Location); err != nil {
		p.broken(w, r, err)
	}
}

func (p *Pages) confirmed(w http.ResponseWriter, r *http.Request, form Form, v visitor, leaving Leaving) {
	if !fromOurPage(r, p.config.Origin) || !matches(form("csrf"), endToken(p.secret(r))) {
		p.forged(w, r)
		return
	}
	p.end(w, r, v, leaving)
}

func (p *Pages) end(w http.ResponseWriter, r *http.Request, v visitor, leaving Leaving) {
	if err := p.deps.People.RevokeSession(r.Context(), v.session.ID); err != nil {
		p.broken(w, r, fmt.Errorf("ending a session: %w", err))
		return
	}
	p.ended(w, r, leaving)
}

// ended is what follows once nobody is logged in.
func (p *Pages) ended(w http.ResponseWriter, r *http.Request, leaving Leaving) {
	p.cookies.drop(w, p.cookies.name("session"))
	switch {
	case leaving.Location != "":
		see(w, leaving.Location)
	case r.Method == http.MethodPost:
		see(w, PathEndSession)
	default:
		p.Problem(w, r, http.StatusOK, "end.done")
	}
}

// secret is the session cookie's value.
func (p *Pages) secret(r *http.Request) string {
	cookie, err := r.Cookie(p.cookies.name("session"))
	if err != nil {
		return ""
	}
	return cookie.Value
}
