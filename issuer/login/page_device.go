package login

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
)

// maxUserCode bounds what is taken for a user code, in bytes.
const maxUserCode = 32

// devicePage is where people bring the code that a device shows (RFC 8628
// §3.3). It asks them to log in first, shows the code that a link brought and
// lets them send it themselves, and goes on to the consent page, which shows
// who asks for what, and the code again.
func (p *Pages) devicePage(w http.ResponseWriter, r *http.Request, form Form) {
	if form("flow") == "" {
		p.beginDevice(w, r, form)
		return
	}
	f, v, ok := p.flowOf(w, r, form)
	if !ok {
		return
	}
	step, _, _, err := p.next(r.Context(), f, v, false)
	switch {
	case err != nil:
		p.broken(w, r, err)
	case step != stepCode:
		p.proceed(w, r, f, v, false)
	case r.Method == http.MethodPost:
		p.enterCode(w, r, form, f, v)
	default:
		p.showDevice(w, r, http.StatusOK, f, v, f.UserCode, "")
	}
}

// beginDevice starts a flow that has no client yet. A POST without a flow comes
// from no page of ours.
func (p *Pages) beginDevice(w http.ResponseWriter, r *http.Request, form Form) {
	if r.Method == http.MethodPost {
		p.forged(w, r)
		return
	}
	code := form("user_code")
	if len(code) > maxUserCode {
		code = ""
	}
	p.Begin(w, r, &Flow{Device: true, UserCode: code, AskConsent: true, UILocales: form("ui_locales")})
}

func (p *Pages) showDevice(w http.ResponseWriter, r *http.Request, status int, f *Flow, v visitor, code, problem string) {
	said := p.views.words(r, f.UILocales)
	if problem != "" {
		problem = said.Say(problem)
	}
	p.show(w, r, status, "device", view{
		words: said, Title: said.Say("device.title"), Problem: problem, FlowID: f.ID, CSRF: f.CSRF,
		Account: string(v.user.Login), UserCode: code,
	}, f)
}

// enterCode takes a user code. Wrong ones are counted before they are looked
// up, so that parallel guesses do not slip through.
func (p *Pages) enterCode(w http.ResponseWriter, r *http.Request, form Form, f *Flow, v visitor) {
	if !fromOurPage(r, p.config.Origin) || !matches(form("csrf"), f.CSRF) {
		p.forged(w, r)
		return
	}
	code := form("user_code")
	if len(code) > maxUserCode {
		code = ""
	}
	forgive, wait := p.guesses.take(v.user.ID, ClientAddress(r))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.showDevice(w, r, http.StatusTooManyRequests, f, v, code, "login.throttled")
		return
	}
	asked, err := p.deps.Authority.Device(r.Context(), code)
	switch {
	case err != nil:
		p.broken(w, r, fmt.Errorf("looking up a user code: %w", err))
	case asked == nil:
		p.showDevice(w, r, http.StatusBadRequest, f, v, code, "device.wrong")
	default:
		forgive()
		f.UserCode, f.ClientID, f.Scopes, f.Resources = asked.UserCode, asked.ClientID, asked.Scopes, asked.Resources
		p.proceed(w, r, f, v, false)
	}
}

// connectedPage and refusedPage end it; they say nothing of anybody.
func (p *Pages) connectedPage(w http.ResponseWriter, r *http.Request, _ Form) {
	p.Problem(w, r, http.StatusOK, "connected")
}

func (p *Pages) refusedPage(w http.ResponseWriter, r *http.Request, _ Form) {
	p.Problem(w, r, http.StatusOK, "refused")
}
