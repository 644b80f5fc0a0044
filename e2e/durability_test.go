package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// rounds says whether one more round is due; the round counts from 0.
type rounds func(round int) bool

func times(n int) rounds { return func(round int) bool { return round < n } }

// The issuer is killed with SIGKILL while it works, again and again: whatever
// it acknowledged before holds afterwards.
func TestFaultsIssuerKeepsItsWord(t *testing.T) { killIssuer(t, times(5)) }

// killIssuer kills and restarts the issuer for some rounds, in the midst of
// refreshes, revocations, redemptions and all the other flows (flows), and
// holds it to its word after each.
func killIssuer(t *testing.T, again rounds) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.refresh_grace", "60s") // a lost answer can be asked for again
		flowConfig(c)
	}})
	shop := s.AddShop(t, "shop", "read:orders")
	robot, _ := s.Robot(t, "robot", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	w := &work{s: s, robot: robot}
	chains := make([]*chain, 3)
	for i := range chains {
		first := s.Login(t, shop, ada, "offline_access", "read:orders")
		chains[i] = &chain{client: shop, spent: []string{first.Refresh}, refresh: first.Refresh, access: first.Access}
	}
	chains = append(chains, w.boundChain(t, ada))
	others := newFlows(t, w, ada)
	for round := 0; again(round); round++ {
		a := s.Authorization(shop, "read:orders")
		code := s.NewBrowser(t).LogIn(s.URL("/oauth/authorize?"+a.Query().Encode()), ada.Login, ada.Password).Query().Get("code")
		redeemed := s.Tokens(t, shop, a.Redemption(code))
		client := fmt.Sprintf("round-%d", round)
		secret := s.AddClient(t, client, "read:orders")

		others.begin(t)
		stop := w.start(t, chains, others)
		before := w.acknowledged()
		goal := before + 3 + rand.IntN(40)
		harness.Eventually(t, 20*time.Second, func() error {
			if now := w.acknowledged(); now < goal {
				return fmt.Errorf("%d of %d answers", now-before, goal-before)
			}
			return others.ready()
		})
		others.people(t)
		s.Process(harness.Issuer).Kill()
		stop()
		s.StartPart(t, harness.Issuer)

		others.hold(t)
		harness.Eventually(t, 5*time.Second, s.Says(200, "GET", "/orders", redeemed.Access))
		s.Expect(t, 200, "GET", "/orders", s.Token(t, harness.Client{ID: client, Secret: secret}, "read:orders"))
		w.holds(t, chains)
		if answer := s.Post(t, "/oauth/token", shop, a.Redemption(code)); answer.Status != 400 {
			t.Errorf("a code that was redeemed before the kill: %s", answer)
		}
		harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", redeemed.Access)) // as the code was used twice
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	w.end(t, chains)
}

// chain is a family of refresh tokens: those that were spent, and the newest
// that was acknowledged.
type chain struct {
	client          harness.Client
	spent           []string
	refresh, access string
	// key is what all of it is bound to; nil: nothing.
	key *tokentest.Key
}

// boundChain is one of a native client, whose refresh tokens are bound to a key.
func (w *work) boundChain(t *testing.T, p harness.Person) *chain {
	t.Helper()
	const redirect = "http://127.0.0.1/callback"
	c := &chain{client: harness.Client{ID: "app"}, key: tokentest.NewKey("ES256")}
	w.s.CLI(t, "client", "add", "--id", "app", "--type", "native", "--redirect-uri", redirect, "--scope", "read:orders", "--bind-to-key")
	a := w.s.Authorization(c.client, "offline_access", "read:orders")
	a.Redirect = redirect
	back := w.s.NewBrowser(t).LogIn(w.s.URL("/oauth/authorize?"+a.Query().Encode()), p.Login, p.Password)
	answer, ok := w.postBound(t.Context(), t, c.key, c.client, a.Redemption(back.Query().Get("code")))
	if !ok || !c.take(t, answer) {
		t.Fatalf("the redemption with a proof: %s", answer)
	}
	return c
}

// take takes the tokens of an answer.
func (c *chain) take(t *testing.T, answer harness.Answer) bool {
	t.Helper()
	fields := answer.JSON(t)
	next, _ := fields["refresh_token"].(string)
	access, _ := fields["access_token"].(string)
	if answer.Status != http.StatusOK || next == "" || access == "" {
		t.Errorf("a refresh by %s: %s", c.client.ID, answer)
		return false
	}
	c.spent, c.refresh, c.access = append(c.spent, next), next, access
	return true
}

// opens asks for the orders with the chain's newest token.
func (c *chain) opens(t *testing.T, s *harness.System) harness.Answer {
	t.Helper()
	if c.key == nil {
		return s.Call(t, "GET", "/orders", c.access)
	}
	request, err := http.NewRequest(http.MethodGet, s.URL("/orders"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "DPoP "+c.access)
	request.Header.Set("DPoP", c.key.Proof("GET", s.URL("/orders"), c.access, time.Now()))
	return s.Send(t, request)
}

// work is what the issuer is asked all the time, and what it acknowledged.
type work struct {
	s     *harness.System
	robot harness.Client

	mu      sync.Mutex
	answers int
	revoked []string
}

func (w *work) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers
}

func (w *work) acknowledge(revoked ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers++
	w.revoked = append(w.revoked, revoked...)
}

// start keeps the issuer busy until the returned function is called.
func (w *work) start(t *testing.T, chains []*chain, others *flows) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, c := range chains {
		all.Go(func() {
			for ctx.Err() == nil {
				w.refresh(ctx, t, c)
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			w.revoke(ctx, t)
		}
	})
	all.Go(func() {
		for ctx.Err() == nil {
			others.machines(ctx, t)
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// refresh moves a chain on. Where no answer came nobody knows whether the token
// was spent, and it is presented again the next time.
func (w *work) refresh(ctx context.Context, t *testing.T, c *chain) {
	if answer, ok := w.ask(ctx, t, c, c.key, c.refresh); ok && c.take(t, answer) {
		w.acknowledge()
	}
}

// ask presents a refresh token of a chain, with a proof by a key or without.
func (w *work) ask(ctx context.Context, t *testing.T, c *chain, key *tokentest.Key, refresh string) (harness.Answer, bool) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	if key == nil {
		return w.post(ctx, t, "/oauth/token", c.client, form)
	}
	return w.postBound(ctx, t, key, c.client, form)
}

// postBound asks for tokens with a proof by a key, and again with the nonce that
// the issuer wants to see in it.
func (w *work) postBound(ctx context.Context, t *testing.T, key *tokentest.Key, c harness.Client, form url.Values) (answer harness.Answer, ok bool) {
	form.Set("client_id", c.ID)
	for nonce, tries := "", 0; tries < 2; tries++ {
		claims := tokentest.ProofClaims("POST", w.s.URL("/oauth/token"), "", time.Now())
		if nonce != "" {
			claims["nonce"] = nonce
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.s.URL("/oauth/token"), strings.NewReader(form.Encode()))
		if err != nil {
			t.Error(err)
			return answer, false
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("DPoP", key.Sign(key.ProofHeader(), claims))
		if answer, err = harness.Read(w.s.HTTP(), request); err != nil || answer.Status >= 500 {
			return answer, false
		}
		if !strings.Contains(answer.Body, "use_dpop_nonce") {
			break
		}
		nonce = answer.Header.Get("DPoP-Nonce")
	}
	return answer, true
}

// revoke gets a token and revokes it.
func (w *work) revoke(ctx context.Context, t *testing.T) {
	answer, ok := w.post(ctx, t, "/oauth/token", w.robot, url.Values{"grant_type": {"client_credentials"}})
	if !ok {
		return
	}
	access, _ := answer.JSON(t)["access_token"].(string)
	if answer, ok := w.post(ctx, t, "/oauth/revoke", w.robot, url.Values{"token": {access}}); ok && answer.Status == http.StatusOK {
		w.acknowledge(access)
	}
}

// post is false where the issuer did not answer; being dead is no error.
func (w *work) post(ctx context.Context, t *testing.T, path string, c harness.Client, form url.Values) (harness.Answer, bool) {
	answer, err := w.s.TryPost(ctx, path, c, form)
	return answer, err == nil && answer.Status < 500
}

// holds checks what was acknowledged: the newest tokens of the chains are good,
// what was revoked is refused.
func (w *work) holds(t *testing.T, chains []*chain) {
	t.Helper()
	for i, c := range chains {
		if answer := c.opens(t, w.s); answer.Status != 200 {
			t.Errorf("chain %d: its newest token: %s", i, answer)
		}
		if c.key != nil {
			for what, key := range map[string]*tokentest.Key{"another key": tokentest.NewKey("ES256"), "no proof": nil} {
				if answer, ok := w.ask(t.Context(), t, c, key, c.refresh); !ok || answer.Status != 400 {
					t.Errorf("chain %d: with %s: %s", i, what, answer)
				}
			}
		}
		w.refresh(t.Context(), t, c)
	}
	for _, access := range w.revoked {
		// It may have been acknowledged and not heard of when the feed broke.
		harness.Eventually(t, time.Second, w.s.Says(401, "GET", "/orders", access))
	}
}

// end checks that every refresh token is spent but the last of each chain.
func (w *work) end(t *testing.T, chains []*chain) {
	t.Helper()
	for i, c := range chains {
		if len(c.spent) < 3 {
			t.Errorf("chain %d was refreshed %d times: too few to prove anything", i, len(c.spent)-1)
			continue
		}
		for _, spent := range []string{c.spent[0], c.spent[len(c.spent)/2]} {
			if answer, ok := w.ask(t.Context(), t, c, c.key, spent); !ok || answer.Status != 400 {
				t.Errorf("chain %d: a spent refresh token: %s", i, answer)
			}
		}
	}
}
