package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const (
	deviceGrant     = "urn:ietf:params:oauth:grant-type:device_code"
	clientAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// flows are what machines and devices ask of the issuer beside refreshes, and
// its word for it: what each acknowledgement means after the issuer was killed.
type flows struct {
	w          *work
	svc, told  harness.Client
	tv, pusher harness.Client
	key        *tokentest.Key
	initial    string
	browser    *harness.Browser
	person     harness.Person
	clients    *told

	mu    sync.Mutex
	words map[string]word
}

// word says whether what was acknowledged holds, once the issuer is back.
type word func() error

// flowConfig lets the flows work.
func flowConfig(c harness.Config) {
	c.Set("issuer.backchannel_logout.allow_internal", true)
	c.Set("issuer.registration.access", "token")
	c.Set("issuer.token_exchange", []any{map[string]any{
		"client": "svc", "subject_audience": harness.OrdersAPI, "target": harness.ProfileAPI,
		"allow": []string{"delegation"}, "scopes": map[string]any{"read:orders": []string{"read:profile"}},
	}})
}

func newFlows(t *testing.T, w *work, p harness.Person) *flows {
	t.Helper()
	s := w.s
	f := &flows{w: w, person: p, key: tokentest.NewKey("ES256"), browser: s.NewBrowser(t), clients: startTold(t)}
	f.svc = s.AddLogin(t, "svc", "https://svc.example/cb", []string{"read:profile"}, "--grant", "authorization_code", "--grant", exchangeGrant)
	f.tv = s.AddLogin(t, "tv", "https://tv.example/cb", []string{"read:orders"}, "--grant", "authorization_code", "--grant", deviceGrant)
	f.pusher = s.AddLogin(t, "pusher", "https://pusher.example/cb", []string{"read:orders"}, "--require-pushed")
	f.told = s.AddLogin(t, "told", "https://shop.example/callback", []string{"read:orders"}, "--backchannel-logout-uri", f.clients.URL)
	jwks := filepath.Join(s.Dir, "signer.jwks")
	if err := os.WriteFile(jwks, tokentest.JWKS(f.key), 0o600); err != nil {
		t.Fatal(err)
	}
	s.CLI(t, "client", "add", "--id", "signer", "--scope", "read:orders", "--auth-method", "private_key_jwt", "--jwks", jwks)
	return f
}

// begin makes ready for a round.
func (f *flows) begin(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "initial")
	f.w.s.CLI(t, "client", "registration-token", "add", "--grant", "client_credentials", "--scope", "read:orders", "--uses", "1000", "--secret-file", file)
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f.initial, f.words = strings.TrimSpace(string(secret)), map[string]word{}
}

// gives notes what the issuer acknowledged last of a kind.
func (f *flows) gives(what string, holds word) {
	f.mu.Lock()
	f.words[what] = holds
	f.mu.Unlock()
	f.w.acknowledge()
}

// kinds are all that each round has to have an acknowledgement of, what lives
// least first: a pushed request lives for a minute.
var kinds = []string{
	"a pushed request", "a pushed request that was taken", "an assertion's jti", "the child of a revoked parent",
	"a registration", "a registration that was ended", "a device code that was fetched", "a device that was allowed", "a logout",
}

// ready tells whether the machines came round once.
func (f *flows) ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, what := range kinds[:6] {
		if f.words[what] == nil {
			return fmt.Errorf("there is no acknowledgement of %s", what)
		}
	}
	return nil
}

// hold checks every word of a round.
func (f *flows) hold(t *testing.T) {
	t.Helper()
	for _, what := range kinds {
		holds := f.words[what]
		if holds == nil {
			t.Errorf("the round has no acknowledgement of %s", what)
		} else if err := holds(); err != nil {
			t.Errorf("%s, acknowledged before the kill: %v", what, err)
		}
	}
}

// machines asks for all that needs no person, once each; what goes wrong while
// the issuer is dead is no error.
func (f *flows) machines(ctx context.Context, t *testing.T) {
	for _, ask := range []func(context.Context, *testing.T){f.push, f.assert, f.exchange, f.register} {
		if ctx.Err() == nil {
			ask(ctx, t)
		}
	}
}

// push pushes two authorization requests, and lets a browser take one.
func (f *flows) push(ctx context.Context, t *testing.T) {
	var names []string
	for range 2 {
		a := f.w.s.Authorization(f.pusher, "read:orders")
		a.Redirect = "https://pusher.example/cb"
		answer, ok := f.w.post(ctx, t, "/oauth/par", f.pusher, a.Query())
		if !ok {
			return
		}
		name, _ := answer.JSON(t)["request_uri"].(string)
		if answer.Status != http.StatusCreated {
			t.Errorf("pushing: %s", answer)
			return
		}
		names = append(names, name)
	}
	f.gives("a pushed request", func() error {
		if err := f.take(context.Background(), names[0], http.StatusSeeOther); err != nil {
			return err
		}
		return f.take(context.Background(), names[0], http.StatusBadRequest)
	})
	if f.take(ctx, names[1], http.StatusSeeOther) == nil {
		f.gives("a pushed request that was taken", func() error { return f.take(context.Background(), names[1], http.StatusBadRequest) })
	}
}

// take sends a browser with a pushed request, and wants to be answered so: 303
// leads on to the login.
func (f *flows) take(ctx context.Context, name string, want int) error {
	query := url.Values{"client_id": {f.pusher.ID}, "request_uri": {name}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.w.s.URL("/oauth/authorize?"+query.Encode()), nil)
	if err != nil {
		return err
	}
	answer, err := harness.Read(f.w.s.HTTP(), request)
	if err == nil && answer.Status != want {
		err = fmt.Errorf("it is answered %d, want %d", answer.Status, want)
	}
	return err
}

// assert uses an assertion, which is good once.
func (f *flows) assert(ctx context.Context, t *testing.T) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_assertion_type": {clientAssertion},
		"client_assertion": {f.key.Sign(map[string]any{"alg": "ES256", "kid": f.key.ID(), "typ": "JWT"}, tokentest.ClientAssertion("signer", f.w.s.URL(""), time.Now()))},
	}
	answer, ok := f.w.post(ctx, t, "/oauth/token", harness.Client{ID: "signer"}, form)
	switch {
	case !ok:
	case answer.Status != http.StatusOK:
		t.Errorf("an assertion: %s", answer)
	default:
		f.gives("an assertion's jti", f.refused(401, "/oauth/token", harness.Client{ID: "signer"}, form))
	}
}

// refused wants a request to be refused.
func (f *flows) refused(status int, path string, c harness.Client, form url.Values) word {
	return func() error {
		answer, err := f.w.s.TryPost(context.Background(), path, c, form)
		if err == nil && answer.Status != status {
			err = fmt.Errorf("answered %s, want %d", answer, status)
		}
		return err
	}
}

// exchange makes a token from another, and revokes that.
func (f *flows) exchange(ctx context.Context, t *testing.T) {
	parent, ok := f.token(ctx, t, f.w.robot, url.Values{"grant_type": {"client_credentials"}})
	if !ok {
		return
	}
	form := url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {parent}, "subject_token_type": {accessTokenType}, "resource": {harness.ProfileAPI},
	}
	child, ok := f.token(ctx, t, f.svc, form)
	if !ok {
		return
	}
	if answer, ok := f.w.post(ctx, t, "/oauth/revoke", f.w.robot, url.Values{"token": {parent}}); ok && answer.Status == http.StatusOK {
		f.gives("the child of a revoked parent", func() error {
			// The feed may have broken before the gateway heard of it.
			if err := harness.Try(10*time.Second, f.w.s.Says(401, "GET", "/profile", child)); err != nil {
				return err
			}
			return f.refused(400, "/oauth/token", f.svc, form)()
		})
	}
}

// token is a token endpoint's answer, where there is one.
func (f *flows) token(ctx context.Context, t *testing.T, c harness.Client, form url.Values) (string, bool) {
	answer, ok := f.w.post(ctx, t, "/oauth/token", c, form)
	if !ok {
		return "", false
	}
	access, _ := answer.JSON(t)["access_token"].(string)
	if access == "" {
		t.Errorf("%s of %s: %s", form.Get("grant_type"), c.ID, answer)
	}
	return access, access != ""
}

// register registers two clients and ends one of them.
func (f *flows) register(ctx context.Context, t *testing.T) {
	var made [2]struct {
		ID         string `json:"client_id"`
		Secret     string `json:"client_secret"`
		Management string `json:"registration_access_token"`
	}
	for i := range made {
		answer, err := f.manage(ctx, http.MethodPost, "", f.initial, `{"grant_types":["client_credentials"],"scope":"read:orders","redirect_uris":[],"response_types":[]}`)
		if err != nil || answer.Status >= 500 {
			return
		}
		if err := json.Unmarshal([]byte(answer.Body), &made[i]); err != nil || answer.Status != http.StatusCreated {
			t.Errorf("registering: %s", answer)
			return
		}
	}
	kept, ended := made[0], made[1]
	own := url.Values{"grant_type": {"client_credentials"}}
	f.gives("a registration", func() error {
		if answer, err := f.manage(context.Background(), http.MethodGet, kept.ID, kept.Management, ""); err != nil || answer.Status != 200 {
			return fmt.Errorf("asked what it is: %s, %w", answer, err)
		}
		return f.refused(200, "/oauth/token", harness.Client{ID: kept.ID, Secret: kept.Secret}, own)()
	})
	if answer, err := f.manage(ctx, http.MethodDelete, ended.ID, ended.Management, ""); err == nil && answer.Status == http.StatusNoContent {
		f.gives("a registration that was ended", f.refused(401, "/oauth/token", harness.Client{ID: ended.ID, Secret: ended.Secret}, own))
	}
}

// manage speaks RFC 7591 and 7592.
func (f *flows) manage(ctx context.Context, method, id, bearer, body string) (harness.Answer, error) {
	where := f.w.s.URL("/oauth/register")
	if id != "" {
		where += "?" + url.Values{"client_id": {id}}.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, where, strings.NewReader(body))
	if err != nil {
		return harness.Answer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return harness.Read(f.w.s.HTTP(), request)
}

// people does what needs a person, up to the moment before the kill: one device
// is connected and has its tokens, another is connected and has none, and a
// session ends of which a client is to be told.
func (f *flows) people(t *testing.T) {
	t.Helper()
	s := f.w.s
	fetched := f.connect(t)
	s.Tokens(t, f.tv, fetched)
	f.gives("a device code that was fetched", f.refused(400, "/oauth/token", f.tv, fetched))
	waiting := f.connect(t)
	f.gives("a device that was allowed", func() error {
		if err := f.refused(200, "/oauth/token", f.tv, waiting)(); err != nil {
			return err
		}
		return f.refused(400, "/oauth/token", f.tv, waiting)()
	})
	session := verify(t, s, s.Login(t, f.told, f.person, "read:orders").Access).SessionID()
	f.clients.hold()
	s.CLI(t, "session", "revoke", session)
	harness.Eventually(t, 10*time.Second, f.clients.asked)
	f.gives("a logout", func() error {
		f.clients.release()
		// It may have been tried before the kill, and be tried again later.
		return harness.Try(20*time.Second, func() error { return f.clients.heard(session) })
	})
}

// connect lets the person allow a new device, and is how that fetches its
// tokens.
func (f *flows) connect(t *testing.T) url.Values {
	t.Helper()
	d := f.w.s.Post(t, "/oauth/device_authorization", f.tv, url.Values{"scope": {"read:orders"}}).JSON(t)
	code, _ := d["device_code"].(string)
	address, _ := d["verification_uri_complete"].(string)
	b := f.browser
	b.Open(address)
	b.Follow()
	if b.Form().Fields.Has("password") {
		b.Submit("login", f.person.Login, "password", f.person.Password)
		b.Follow()
	}
	b.Submit() // the code
	b.Follow()
	b.Submit("decision", "allow")
	if b.Follow(); b.Status != http.StatusOK {
		t.Fatalf("the device is not connected: %d at %s", b.Status, b.URL)
	}
	return url.Values{"grant_type": {deviceGrant}, "device_code": {code}}
}

// told is a client's server, which hears of logouts but while it is held.
type told struct {
	*httptest.Server

	mu       sync.Mutex
	held     chan struct{}
	waiting  bool // a notice came and is held
	sessions []string
}

func startTold(t *testing.T) *told {
	c := &told{held: make(chan struct{})}
	close(c.held)
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Server.Close)
	t.Cleanup(c.release)
	return c
}

// ServeHTTP implements http.Handler: a notice counts once it is answered.
func (c *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	notice := r.PostFormValue("logout_token")
	c.mu.Lock()
	held := c.held
	c.waiting = true
	c.mu.Unlock()
	select {
	case <-held:
	case <-r.Context().Done():
		return
	}
	var claims struct {
		SessionID string `json:"sid"`
	}
	parts := strings.Split(notice, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	if err == nil && json.Unmarshal(payload, &claims) == nil {
		c.mu.Lock()
		c.sessions = append(c.sessions, claims.SessionID)
		c.mu.Unlock()
	}
}

func (c *told) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.waiting = make(chan struct{}), false
}

// asked tells whether a notice waits.
func (c *told) asked() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting {
		return errors.New("the client is not told of the logout")
	}
	return nil
}

func (c *told) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.held:
	default:
		close(c.held)
	}
}

func (c *told) heard(session string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.sessions, session) {
		return fmt.Errorf("the client was told of %q, not of %s", c.sessions, session)
	}
	return nil
}
