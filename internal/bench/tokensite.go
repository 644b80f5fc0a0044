package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

const (
	benchClient = "bench"
	benchSecret = "a secret of the bench, which nobody else has"
)

// tokenSite is an issuer whose database has a client and grants to refresh, and
// the bare server beside it.
type tokenSite struct {
	dir        string
	ours, bare *tokenServer
	refresh    []string // one family for each worker
	readyAfter time.Duration
	closers    []func()
}

func (s *tokenSite) close() {
	for _, c := range slices.Backward(s.closers) {
		c()
	}
}

func newTokenSite(ctx context.Context, o options) (_ *tokenSite, err error) {
	s := &tokenSite{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	s.closers = append(s.closers, func() { os.RemoveAll(s.dir) })
	issuer, telemetry, bare := freeAddress(), freeAddress(), freeAddress()
	config := filepath.Join(s.dir, "gatehouse.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, issuerConfig, issuer, telemetry), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if err := s.populate(ctx, slices.Max(parallels)); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the bench's own binary: %w", err)
	}
	if s.bare, err = s.start(ctx, "http://"+bare, "", exec.Command(self, "-serve-bare", bare)); err != nil {
		return nil, err
	}
	s.bare.worker = s.bareWorker("http://" + bare)
	started := time.Now()
	if s.ours, err = s.start(ctx, "http://"+issuer, "http://"+telemetry+"/readyz", exec.Command(o.gatehouse, "issuer", "--config", config)); err != nil {
		return nil, err
	}
	s.readyAfter = time.Since(started)
	s.ours.worker = s.issuerWorker("http://" + issuer + "/oauth/token")
	return s, nil
}

const issuerConfig = `version: 1
issuer:
  url: https://issuer.example
  listen: %s
  telemetry: %s
  apis: [{audience: https://orders.example, scopes: [read:orders]}]
  roles: {customer: [read:orders]}
gateway: {public_url: https://issuer.example}
`

// populate writes the client, a person and their grants into the database,
// before the issuer opens it: a login for each would measure argon2.
func (s *tokenSite) populate(ctx context.Context, families int) error {
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	db, err := bolt.Open(filepath.Join(data, "issuer.db"), bolt.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	s.refresh, err = grantFamilies(ctx, db, families)
	return err
}

// grantFamilies makes the client and so many grants of a person, and returns
// their refresh tokens.
func grantFamilies(ctx context.Context, db store.Store, families int) (tokens []string, err error) {
	scopes := []string{"read:orders", "offline_access"}
	if err := db.CreateClient(ctx, store.Client{
		ID: benchClient, Type: store.Confidential, Secret: store.HashOf(benchSecret), Scopes: scopes,
		GrantTypes: []string{"client_credentials", "authorization_code", "refresh_token"}, RedirectURIs: []string{"https://bench.example/"},
	}); err != nil {
		return nil, err
	}
	user := store.User{ID: store.NewID(store.UserIDPrefix), Login: "ada", Roles: []string{"customer"}, Password: "none"}
	if err := db.CreateUser(ctx, user); err != nil {
		return nil, err
	}
	now := time.Now()
	session, err := db.CreateSession(ctx, store.Session{
		ID: store.NewID("ses_"), Cookie: store.HashOf(store.NewToken("")), UserID: user.ID, AuthTime: now, ExpiresAt: now.Add(12 * time.Hour),
	})
	if err != nil {
		return nil, err
	}
	for range families {
		code, refresh := store.HashOf(store.NewToken("")), store.NewToken(store.RefreshPrefix)
		if _, err := db.CreateCode(ctx, store.Code{
			Hash: code, ClientID: benchClient, UserID: user.ID, SessionID: session.ID, Scopes: scopes,
			AuthTime: now, ExpiresAt: now.Add(time.Minute),
		}); err != nil {
			return nil, err
		}
		terms := store.Terms{ExpiresAt: now.Add(720 * time.Hour), Refresh: store.HashOf(refresh)}
		if _, err := db.RedeemCode(ctx, store.Redemption{
			Code: code, ClientID: benchClient, GrantID: store.NewID("gra_"),
			Decide: func(store.Code) (store.Terms, error) { return terms, nil },
		}); err != nil {
			return nil, err
		}
		tokens = append(tokens, refresh)
	}
	return tokens, nil
}

// issuerWorker asks the issuer; each refreshing worker has a family of its own.
func (s *tokenSite) issuerWorker(address string) func(issuance, int) func(context.Context) error {
	return func(kind issuance, n int) func(context.Context) error {
		return func(ctx context.Context) error {
			form := url.Values{"grant_type": {"client_credentials"}, "scope": {"read:orders"}}
			if kind.name == "refresh" {
				form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refresh[n]}}
			}
			answer, err := s.ours.post(ctx, address, benchClient, benchSecret, form)
			if err == nil && kind.name == "refresh" {
				s.refresh[n] = answer.Refresh
			}
			return err
		}
	}
}

func (s *tokenSite) bareWorker(address string) func(issuance, int) func(context.Context) error {
	return func(kind issuance, n int) func(context.Context) error {
		token := strconv.Itoa(n)
		return func(ctx context.Context) error {
			answer, err := s.bare.post(ctx, address+kind.bare, benchClient, benchSecret,
				url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
			token = answer.Refresh
			return err
		}
	}
}

// start runs a contestant and waits until it answers, at ready where that is
// not empty with 200.
func (s *tokenSite) start(ctx context.Context, address, ready string, command *exec.Cmd) (*tokenServer, error) {
	log, err := os.CreateTemp(s.dir, "*.log")
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w (run `make build` first?)", command.Path, err)
	}
	s.closers = append(s.closers, func() {
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
		log.Close()
	})
	if err := awaitHTTP(ctx, address, ready); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("waiting for %s: %w\n%s", command.Path, err, text)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: slices.Max(parallels)}
	s.closers = append(s.closers, transport.CloseIdleConnections)
	return &tokenServer{pid: command.Process.Pid, http: &http.Client{Transport: transport}}, nil
}

func awaitHTTP(ctx context.Context, address, ready string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := answers(address, ready)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func answers(address, ready string) error {
	if ready == "" {
		response, err := http.Get(address)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	response, err := http.Get(ready)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", ready, response.StatusCode)
	}
	return nil
}

// memory is what the issuer's process holds, in MiB.
func (s *tokenSite) memory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.ours.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer listener.Close()
	return listener.Addr().String()
}
