package login

import "net/http"

// consentPage asks the person whether the client may have what it asks for.
func (p *Pages) consentPage(w http.ResponseWriter, r *http.Request, form Form) {
	f, v, ok := p.flowOf(w, r, form)
	if !ok {
		return
	}
	step, _, scopes, err := p.next(r.Context(), f, v, false)
	switch {
	case err != nil:
		p.broken(w, r, err)
	case step != stepConsent:
		p.proceed(w, r, f, v, false)
	case r.Method == http.MethodPost:
		p.answer(w, r, form, f, v, scopes)
	default:
		p.showConsent(w, r, f, v, scopes)
	}
}

func (p *Pages) showConsent(w http.ResponseWriter, r *http.Request, f *Flow, v visitor, scopes []string) {
	client, err := p.clientName(r.Context(), f.ClientID)
	if err != nil {
		p.broken(w, r, err)
		return
	}
	said := p.views.words(r, f.UILocales)
	p.show(w, r, http.StatusOK, "consent", view{
		words: said, Title: said.Say("consent.title"), FlowID: f.ID, CSRF: consentToken(f, v.session, scopes),
		Account: string(v.user.Login), Client: client, Destination: said.destination(f.RedirectURI), Scopes: said.scopeViews(scopes),
		UserCode: f.UserCode,
	}, f)
}

func (p *Pages) answer(w http.ResponseWriter, r *http.Request, form Form, f *Flow, v visitor, scopes []string) {
	if !fromOurPage(r, p.config.Origin) || !matches(form("csrf"), consentToken(f, v.session, scopes)) {
		p.forged(w, r)
		return
	}
	switch form("decision") {
	case "allow":
		p.proceed(w, r, f, v, true)
	case "deny":
		p.conclude(w, r, Outcome{Flow: f, Error: "access_denied"}, false)
	default:
		p.showConsent(w, r, f, v, scopes)
	}
}
