package backchannel

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

// site is a store with a client's session, and the client's server.
type site struct {
	t       *testing.T
	store   *bolt.DB
	config  Config
	server  *httptest.Server
	mu      sync.Mutex
	status  int
	got     []string
	arrived chan struct{}
	now     func() time.Time
}

func newSite(t *testing.T, now func() time.Time) *site {
	t.Helper()
	s := &site{t: t, status: http.StatusOK, arrived: make(chan struct{}, 64), now: now}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "issuer.db"), bolt.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s.store = db
	s.server = httptest.NewTLSServer(http.HandlerFunc(s.take))
	t.Cleanup(s.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Certificate())
	s.config = Config{Issuer: "https://issuer.example", AllowInternal: true, Roots: roots}
	return s
}

func (s *site) take(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost && r.URL.Path == "/logout" && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		s.got = append(s.got, r.PostFormValue("logout_token"))
	}
	if s.status >= 300 && s.status < 400 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(s.status)
	s.arrived <- struct{}{}
}

func (s *site) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

func (s *site) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// endSession logs alice in at a client and out again.
func (s *site) endSession(uri string) store.Session {
	s.t.Helper()
	client := store.Client{ID: store.NewID("app_"), Type: store.Public, BackchannelLogoutURI: uri}
	s.ok(s.store.CreateClient(s.t.Context(), client))
	return s.endSessionAt(client)
}

func (s *site) endSessionAt(client store.Client) store.Session {
	s.t.Helper()
	ctx, now := s.t.Context(), s.now()
	user := store.User{ID: store.NewID(store.UserIDPrefix), Login: store.Login(store.NewID("")), Password: "x"}
	s.ok(s.store.CreateUser(ctx, user))
	session, err := s.store.CreateSession(ctx, store.Session{
		ID: store.NewID("ses_"), Cookie: store.HashOf(store.NewToken("")), UserID: user.ID, AuthTime: now, ExpiresAt: now.Add(time.Hour),
	})
	s.ok(err)
	code := store.HashOf(store.NewToken(""))
	_, err = s.store.CreateCode(ctx, store.Code{Hash: code, ClientID: client.ID, UserID: user.ID, SessionID: session.ID, ExpiresAt: now.Add(time.Minute)})
	s.ok(err)
	_, err = s.store.RedeemCode(ctx, store.Redemption{Code: code, ClientID: client.ID, GrantID: store.NewID("gnt_"), Decide: func(store.Code) (store.Terms, error) {
		return store.Terms{ExpiresAt: now.Add(time.Hour)}, nil
	}})
	s.ok(err)
	s.ok(s.store.RevokeSession(ctx, session.ID))
	return session
}

func plain(_ context.Context, _ store.Client, typ string, claims []byte) (string, error) {
	return typ + "." + base64.RawURLEncoding.EncodeToString(claims), nil
}

func (s *site) sender() *Sender {
	s.t.Helper()
	sender, err := New(s.config, Deps{Store: s.store, Sign: plain, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(), Now: s.now})
	s.ok(err)
	return sender
}

func (s *site) pending() time.Time {
	s.t.Helper()
	at, err := s.store.NextLogout(s.t.Context())
	s.ok(err)
	return at
}

// A client is told as soon as its session ends, with a token of the form that
// §2.4 asks for, and once.
func TestDelivers(t *testing.T) {
	s := newSite(t, time.Now)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	sender := s.sender()
	go func() { ended <- sender.Run(ctx) }()
	session := s.endSession(s.server.URL + "/logout")
	<-s.arrived
	typ, payload, _ := strings.Cut(s.tokens()[0], ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	s.ok(err)
	var claims map[string]any
	s.ok(json.Unmarshal(text, &claims))
	events, _ := claims["events"].(map[string]any)
	if _, happened := events["http://schemas.openid.net/event/backchannel-logout"]; typ != "logout+jwt" || !happened || len(events) != 1 {
		t.Errorf("typ %q, events %v", typ, events)
	}
	if claims["iss"] != "https://issuer.example" || claims["sub"] != session.UserID || claims["sid"] != session.ID || !strings.HasPrefix(claims["aud"].(string), "app_") || claims["jti"] == "" {
		t.Errorf("claims %v", claims)
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 120 || claims["nonce"] != nil {
		t.Errorf("life %v, nonce %v", life, claims["nonce"])
	}
	s.endSession(s.server.URL + "/logout")
	<-s.arrived
	stop()
	if err := <-ended; err != nil || len(s.tokens()) != 2 {
		t.Errorf("%d deliveries, %v", len(s.tokens()), err)
	}
}

// What an answer means for the notice: taken out, or tried again.
func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		status  int
		pending bool
	}{
		{200, false}, {204, false}, {400, false}, {404, false}, {501, true}, {503, true}, {429, true}, {408, true}, {302, true}, {201, true},
	} {
		s := newSite(t, time.Now)
		s.answer(row.status)
		s.endSession(s.server.URL + "/logout")
		s.ok(s.sender().deliverDue(t.Context()))
		if got := !s.pending().IsZero(); got != row.pending || len(s.tokens()) != 1 {
			t.Errorf("%d: pending %t after %d deliveries", row.status, got, len(s.tokens()))
		}
	}
}

// Attempts come ever more slowly and end after a day. The clock here is the
// test's; the server stays out of it, for its sockets would stop the clock.
func TestRetriesAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, now: time.Now}
		db, err := bolt.Open(filepath.Join(t.TempDir(), "issuer.db"), bolt.Options{Now: time.Now})
		s.ok(err)
		defer db.Close()
		s.store = db
		sender := s.sender()
		attempts := []time.Time{}
		sender.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			attempts = append(attempts, time.Now())
			return nil, errors.New("nobody answers")
		})
		began := time.Now()
		s.endSession("https://app.example/logout")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- sender.Run(ctx) }()
		<-time.After(giveUp + 2*longestWait) // by the bubble's clock
		synctest.Wait()
		if !s.pending().IsZero() {
			t.Error("it is never given up")
		}
		if n := len(attempts); n < 20 || n > 60 {
			t.Fatalf("%d attempts in a day", n)
		}
		for i := 1; i < len(attempts); i++ {
			gap := attempts[i].Sub(attempts[i-1])
			if want := wait(i - 1); gap < want || gap > want+time.Second {
				t.Errorf("attempt %d came after %s, not %s", i+1, gap, want)
			}
		}
		if last := attempts[len(attempts)-1].Sub(began); last < giveUp {
			t.Errorf("given up after %s", last)
		}
		stop()
		synctest.Wait()
		s.ok(<-ended)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Notices go to no internal address, no other certificate and no client that is
// gone.
func TestGoesNowhereElse(t *testing.T) {
	for name, change := range map[string]func(*site){
		"an internal address":  func(s *site) { s.config.AllowInternal = false },
		"an unknown authority": func(s *site) { s.config.Roots = x509.NewCertPool() },
	} {
		s := newSite(t, time.Now)
		change(s)
		s.endSession(s.server.URL + "/logout")
		s.ok(s.sender().deliverDue(t.Context()))
		if len(s.tokens()) != 0 || s.pending().IsZero() {
			t.Errorf("%s: %d deliveries, pending %v", name, len(s.tokens()), s.pending())
		}
	}
	s := newSite(t, time.Now)
	s.endSession(s.server.URL + "/logout")
	due, err := s.store.DueLogouts(t.Context(), 1)
	s.ok(err)
	s.ok(s.store.DeleteClient(t.Context(), due[0].ClientID))
	s.ok(s.sender().deliverDue(t.Context()))
	if len(s.tokens()) != 0 || !s.pending().IsZero() {
		t.Errorf("a client that is gone: %d deliveries", len(s.tokens()))
	}
}

// A client that cannot be reached holds up no other, however many notices are
// due for it.
func TestDeadClientsHoldNobodyUp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newSite(t, func() time.Time { return now })
	gone := httptest.NewTLSServer(nil)
	dead := store.Client{ID: "dead", Type: store.Public, BackchannelLogoutURI: gone.URL + "/logout"}
	gone.Close()
	s.ok(s.store.CreateClient(t.Context(), dead))
	for range batch - 1 {
		s.endSessionAt(dead)
	}
	s.endSession(s.server.URL + "/logout")
	due, err := s.store.DueLogouts(t.Context(), batch)
	s.ok(err)
	if order := inTurns(due); order[0].ClientID == order[1].ClientID || len(order) != batch {
		t.Errorf("of %d notices the first two are for %s and %s", len(order), order[0].ClientID, order[1].ClientID)
	}
	sender := s.sender()
	s.ok(sender.deliverDue(t.Context()))
	if got := len(s.tokens()); got != 1 {
		t.Errorf("the other client was told %d times", got)
	}
	if failed := counted(t, sender.attempts.WithLabelValues("failed")); failed < 1 || failed > parallel {
		t.Errorf("the dead one was tried %v times", failed)
	}
	if next, err := s.store.NextLogout(t.Context()); err != nil || !next.Equal(now.Add(firstWait)) {
		t.Errorf("the next is due at %s, %v", next, err)
	}
	now = now.Add(firstWait)
	due, err = s.store.DueLogouts(t.Context(), batch)
	s.ok(err)
	attempts := 0
	for _, l := range due {
		attempts += l.Attempts
	}
	if failed := counted(t, sender.attempts.WithLabelValues("failed")); len(due) != batch-1 || float64(attempts) != failed {
		t.Errorf("of %d notices %d attempts are noted, %v were made", len(due), attempts, failed)
	}
}

// A notice that a client cannot take keeps its others back only where the answer
// says that the client as a whole is away.
func TestOneFaultyNoticeHoldsNoOtherUp(t *testing.T) {
	for status, away := range map[int]bool{500: false, 502: false, 408: false, 302: false, 503: true, 429: true} {
		s := newSite(t, time.Now)
		s.answer(status)
		client := store.Client{ID: "app", Type: store.Public, BackchannelLogoutURI: s.server.URL + "/logout"}
		s.ok(s.store.CreateClient(t.Context(), client))
		r := &round{sender: s.sender(), down: map[string]bool{}}
		first, second := s.endSessionAt(client), s.endSessionAt(client)
		due, err := s.store.DueLogouts(t.Context(), batch)
		s.ok(err)
		if len(due) != 2 || first.ID == second.ID {
			t.Fatalf("%d notices", len(due))
		}
		s.ok(r.handle(t.Context(), due[0]))
		s.answer(http.StatusOK)
		s.ok(r.handle(t.Context(), due[1]))
		if got := len(s.tokens()); (got == 1) != away {
			t.Errorf("after a %d the client was told %d times", status, got)
		}
	}
}

// Notices that are put off come ever more slowly, though nobody tried them: a
// client that stays away costs no more for having many.
func TestPutOff(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{0: firstWait, time.Minute: time.Minute, 5 * time.Hour: longestWait} {
		if got := putOff(age); got != want {
			t.Errorf("after %s: %s, want %s", age, got, want)
		}
	}
}

// counted is a counter's value.
func counted(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}
