package login

import (
	"fmt"
	"net/http"
)

// endSessionPage logs a person out of the issuer (OpenID Connect RP-Initiated
// Logout §2). It always asks, whatever a client sent: another site must not be
// able to log people out. It leads nowhere afterwards, for no post-logout
// redirect can be registered.
func (p *Pages) endSessionPage(w http.ResponseWriter, r *http.Request, form Form) {
	v, err := p.visitor(r)
	switch {
	case err != nil:
		p.broken(w, r, err)
	case v.session == nil:
		p.cookies.drop(w, p.cookies.name("session"))
		p.Problem(w, r, http.StatusOK, "end.done")
	case r.Method == http.MethodPost && form("csrf") != "":
		p.end(w, r, form, v)
	default:
		p.showEnd(w, r, v)
	}
}

func (p *Pages) showEnd(w http.ResponseWriter, r *http.Request, v visitor) {
	said := p.views.words(r, "")
	data := view{words: said, Title: said.Say("end.title"), Account: string(v.user.Login), CSRF: endToken(p.secret(r))}
	if err := p.views.render(w, http.StatusOK, "end", data, ""); err != nil {
		p.broken(w, r, err)
	}
}

func (p *Pages) end(w http.ResponseWriter, r *http.Request, form Form, v visitor) {
	if !fromOurPage(r, p.config.Origin) || !matches(form("csrf"), endToken(p.secret(r))) {
		p.forged(w, r)
		return
	}
	if err := p.deps.People.RevokeSession(r.Context(), v.session.ID); err != nil {
		p.broken(w, r, fmt.Errorf("ending a session: %w", err))
		return
	}
	p.cookies.drop(w, p.cookies.name("session"))
	see(w, PathEndSession)
}

// secret is the session cookie's value.
func (p *Pages) secret(r *http.Request) string {
	cookie, err := r.Cookie(p.cookies.name("session"))
	if err != nil {
		return ""
	}
	return cookie.Value
}
