package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// rounds says whether one more round is due; the round counts from 0.
type rounds func(round int) bool

func times(n int) rounds { return func(round int) bool { return round < n } }

// The issuer is killed with SIGKILL while it works, again and again: whatever
// it acknowledged before holds afterwards.
func TestFaultsIssuerKeepsItsWord(t *testing.T) { killIssuer(t, times(5)) }

// killIssuer kills and restarts the issuer for some rounds, in the midst of
// refreshes, revocations and redemptions, and holds it to its word after each.
func killIssuer(t *testing.T, again rounds) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.refresh_grace", "60s") // a lost answer can be asked for again
	}})
	shop := s.AddShop(t, "shop", "read:orders")
	robot, _ := s.Robot(t, "robot", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	w := &work{s: s, shop: shop, robot: robot}
	chains := make([]*chain, 3)
	for i := range chains {
		first := s.Login(t, shop, ada, "offline_access", "read:orders")
		chains[i] = &chain{spent: []string{first.Refresh}, refresh: first.Refresh, access: first.Access}
	}
	for round := 0; again(round); round++ {
		a := s.Authorization(shop, "read:orders")
		code := s.NewBrowser(t).LogIn(s.URL("/oauth/authorize?"+a.Query().Encode()), ada.Login, ada.Password).Query().Get("code")
		redeemed := s.Tokens(t, shop, a.Redemption(code))
		client := fmt.Sprintf("round-%d", round)
		secret := s.AddClient(t, client, "read:orders")

		stop := w.start(t, chains)
		before := w.acknowledged()
		goal := before + 3 + rand.IntN(40)
		harness.Eventually(t, 20*time.Second, func() error {
			if now := w.acknowledged(); now < goal {
				return fmt.Errorf("%d of %d answers", now-before, goal-before)
			}
			return nil
		})
		s.Process(harness.Issuer).Kill()
		stop()
		s.StartPart(t, harness.Issuer)

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
	spent           []string
	refresh, access string
}

// work is what the issuer is asked all the time, and what it acknowledged.
type work struct {
	s           *harness.System
	shop, robot harness.Client

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

// start refreshes and revokes until the returned function is called.
func (w *work) start(t *testing.T, chains []*chain) (stop func()) {
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
	return func() {
		cancel()
		all.Wait()
	}
}

// refresh moves a chain on. Where no answer came nobody knows whether the token
// was spent, and it is presented again the next time.
func (w *work) refresh(ctx context.Context, t *testing.T, c *chain) {
	answer, ok := w.post(ctx, t, "/oauth/token", w.shop, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.refresh}})
	if !ok {
		return
	}
	fields := answer.JSON(t)
	next, _ := fields["refresh_token"].(string)
	access, _ := fields["access_token"].(string)
	if answer.Status != http.StatusOK || next == "" || access == "" {
		t.Errorf("a refresh: %s", answer)
		return
	}
	c.spent, c.refresh, c.access = append(c.spent, next), next, access
	w.acknowledge()
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
		if answer := w.s.Call(t, "GET", "/orders", c.access); answer.Status != 200 {
			t.Errorf("chain %d: its newest token: %s", i, answer)
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
			if answer := w.s.Post(t, "/oauth/token", w.shop, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {spent}}); answer.Status != 400 {
				t.Errorf("chain %d: a spent refresh token: %s", i, answer)
			}
		}
	}
}
