package login

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// maxPassword bounds what is hashed, in bytes.
const maxPassword = 1024

// maxWait is how long a login may wait for the password hashes of others.
const maxWait = 10 * time.Second

// Attempt is one try to log in. What was typed is not in it: people type
// passwords into the wrong field.
type Attempt struct {
	// UserID is empty where there is no such account.
	UserID  string
	Address string
	// Result is success, failure or throttled.
	Result string
}

// loginPage shows the login form and takes it.
func (p *Pages) loginPage(w http.ResponseWriter, r *http.Request, form Form) {
	f, v, ok := p.flowOf(w, r, form)
	if !ok {
		return
	}
	if r.Method == http.MethodPost {
		p.logIn(w, r, form, f)
		return
	}
	step, _, _, err := p.next(r.Context(), f, v, false)
	switch {
	case err != nil:
		p.broken(w, r, err)
	case step == stepLogin:
		p.showLogin(w, r, http.StatusOK, f, f.LoginHint, "")
	default:
		p.proceed(w, r, f, v, false)
	}
}

// showLogin shows the form; problem is a key of the catalogue.
func (p *Pages) showLogin(w http.ResponseWriter, r *http.Request, status int, f *Flow, typed, problem string) {
	client, err := p.clientName(r.Context(), f.ClientID)
	if err != nil {
		p.broken(w, r, err)
		return
	}
	data := view{words: p.views.words(r, f.UILocales), FlowID: f.ID, CSRF: f.CSRF, Login: typed, Client: client}
	data.Title = data.Say("login.title")
	if problem != "" {
		data.Problem = data.Say(problem)
	}
	p.show(w, r, status, "login", data, f)
}

// logIn takes a login and password. The answer to a wrong one is the same
// whether the account exists, in words and in time.
func (p *Pages) logIn(w http.ResponseWriter, r *http.Request, form Form, f *Flow) {
	if !fromOurPage(r, p.config.Origin) || !matches(form("csrf"), f.CSRF) {
		p.forged(w, r)
		return
	}
	user, wait, err := p.prove(r.Context(), form("login"), form("password"), ClientAddress(r))
	switch {
	case err != nil:
		p.broken(w, r, err)
	case wait > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p.showLogin(w, r, http.StatusTooManyRequests, f, form("login"), "login.throttled")
	case user == nil:
		p.showLogin(w, r, http.StatusForbidden, f, form("login"), "login.wrong")
	default:
		p.welcome(w, r, f, *user)
	}
}

// prove is the user whom login and password belong to; nil: they are wrong.
// wait > 0: nothing was tried, there were too many attempts.
func (p *Pages) prove(ctx context.Context, typed, password, address string) (*store.User, time.Duration, error) {
	login, malformed := store.ParseLogin(typed)
	account := string(login)
	if malformed != nil {
		account = typed
	}
	forgive, wait := p.throttle.take(account, address)
	if wait > 0 {
		p.deps.Attempted(ctx, Attempt{Address: address, Result: "throttled"})
		return nil, wait, nil
	}
	user, err := store.User{}, error(store.ErrNotFound)
	if malformed == nil {
		user, err = p.deps.People.UserByLogin(ctx, login)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, 0, fmt.Errorf("reading a user: %w", err)
	}
	if len(password) > maxPassword {
		password = ""
	}
	// Hashing waits for its turn, but not for ever. For nobody the hash is
	// empty, and its verification takes as long.
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	good, err := p.deps.Passwords.Verify(ctx, user.Password, password)
	if err != nil {
		return nil, 0, fmt.Errorf("verifying a password: %w", err)
	}
	if !good || user.ID == "" || user.Disabled {
		p.deps.Attempted(ctx, Attempt{UserID: user.ID, Address: address, Result: "failure"})
		return nil, 0, nil
	}
	p.upgrade(ctx, user, password)
	forgive()
	p.deps.Attempted(ctx, Attempt{UserID: user.ID, Address: address, Result: "success"})
	return &user, 0, nil
}

// upgrade replaces an imported or outdated hash. A failure costs nothing but
// that: the next login tries again.
func (p *Pages) upgrade(ctx context.Context, user store.User, password string) {
	better, err := p.deps.Passwords.Upgrade(ctx, user.Password, password)
	if err == nil && better != "" {
		err = p.deps.People.UpgradePassword(ctx, user.ID, user.Password, better)
	}
	if err != nil {
		p.deps.Logger.WarnContext(ctx, "a password's hash could not be replaced by a better one", "subject", user.ID, "error", err)
	}
}

// welcome starts the person's session and leads back to the page, which sees
// the new session and goes on.
func (p *Pages) welcome(w http.ResponseWriter, r *http.Request, f *Flow, user store.User) {
	if err := p.admit(r.Context(), w, r, user); err != nil {
		p.broken(w, r, err)
		return
	}
	p.hold(w, r, f, PathLogin)
}

func (p *Pages) forged(w http.ResponseWriter, r *http.Request) {
	p.Problem(w, r, http.StatusForbidden, "forged")
}
