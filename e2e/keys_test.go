package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// newest hands the load the tokens that were issued last, beside the first.
type newest struct {
	mu     sync.Mutex
	tokens []string
}

func (n *newest) add(access string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tokens = append(n.tokens, access)
}

func (n *newest) pick(i int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i%2 == 0 {
		return n.tokens[len(n.tokens)-1]
	}
	return n.tokens[i%len(n.tokens)]
}

// keyOf is the key that signed a token.
func keyOf(t *testing.T, access string) string {
	t.Helper()
	unverified, err := token.Parse(access)
	if err != nil {
		t.Fatal(err)
	}
	return unverified.KeyID()
}

// rotate rotates the keys, and waits until the new one signs; every token that
// is issued meanwhile goes to use.
func rotate(t *testing.T, s *harness.System, robot harness.Client, use func(string)) (key string) {
	t.Helper()
	said := strings.Fields(s.CLI(t, "keys", "rotate"))
	if len(said) < 2 || said[0] != "key" {
		t.Fatalf("keys rotate says %q", said)
	}
	key = said[1]
	harness.Eventually(t, 10*time.Second, func() error {
		access := s.Token(t, robot, "read:orders")
		use(access)
		if got := keyOf(t, access); got != key {
			return fmt.Errorf("tokens are signed by %s, not by the new key %s", got, key)
		}
		return nil
	})
	return key
}

// Three rotations under traffic, with a publish lead of seconds: every token,
// old and new, is good throughout, while forged ones name keys that nobody
// knows.
func TestKeysRotateUnderTraffic(t *testing.T) {
	s := harness.Start(t, harness.Options{Authorizers: 2, Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.keys", map[string]any{"publish_lead": "2s", "rotate_every": "1h"})
	}})
	robot, first := s.Robot(t, "robot", "read:orders")
	tokens := &newest{tokens: []string{first}}
	load := s.Load(t, "", "/orders")
	load.Next = func(_, n int) *http.Request { return s.Request(t, "/orders", tokens.pick(n)) }
	running := load.Start(t)
	stranger := tokentest.NewKey("ES256")
	forgeries := harness.Load{
		Address: s.Gateway(), TLS: s.TLS(t), Workers: 1, Pause: 20 * time.Millisecond,
		Next: func(_, n int) *http.Request {
			claims := tokentest.Claims(s.URL(""), harness.OrdersAPI, time.Now())
			return s.Request(t, "/orders", stranger.WithID(fmt.Sprintf("nobody-%d", n)).Sign(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": fmt.Sprintf("nobody-%d", n)}, claims))
		},
	}.Start(t)
	running.AwaitMore(t, 100)

	signed := map[string]string{keyOf(t, first): first}
	for range 3 {
		key := rotate(t, s, robot, tokens.add)
		signed[key] = s.Token(t, robot, "read:orders")
		tokens.add(signed[key])
		running.AwaitMore(t, 100)
	}
	if len(signed) != 4 {
		t.Fatalf("three rotations gave %d keys", len(signed))
	}
	for key, access := range signed {
		if answer := s.Call(t, "GET", "/orders", access); answer.Status != 200 {
			t.Errorf("a token of the key %s: %s", key, answer)
		}
	}
	harness.ExpectNoneLost(t, running.Stop(), 500)
	for _, r := range forgeries.Stop() {
		if r.Err != nil || r.Status != 401 {
			t.Fatalf("a forged token: %s", r)
		}
	}
	list := s.CLI(t, "keys", "list")
	for key := range signed {
		if !strings.Contains(list, key) {
			t.Errorf("keys list does not show %s:\n%s", key, list)
		}
	}
}

// The control: without the lead, some token would be denied. A token of a key
// that is not published is, under the same load and check.
func TestKeysControl(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	unpublished := tokentest.NewKey("ES256")
	early := unpublished.Sign(unpublished.Header(), tokentest.Claims(s.URL(""), harness.OrdersAPI, time.Now()))
	tokens := &newest{tokens: []string{access}}
	load := s.Load(t, "", "/orders")
	load.Next = func(_, n int) *http.Request { return s.Request(t, "/orders", tokens.pick(n)) }
	running := load.Start(t)
	running.AwaitMore(t, 50)
	tokens.add(early)
	running.AwaitMore(t, 50)
	if lost := harness.Lost(running.Stop()); len(lost) == 0 {
		t.Error("no token of an unpublished key was denied")
	}
}

// A purged key's tokens are refused within a second, seen before or not; other
// keys' tokens go on.
func TestKeysPurge(t *testing.T) {
	s := harness.Start(t, harness.Options{Authorizers: 2, Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.keys", map[string]any{"publish_lead": "2s", "rotate_every": "1h"})
	}})
	robot, seen := s.Robot(t, "robot", "read:orders")
	unseen := s.Token(t, robot, "read:orders")
	s.Expect(t, 200, "GET", "/orders", seen)
	old := keyOf(t, seen)
	rotate(t, s, robot, func(string) {})
	fresh := s.Token(t, robot, "read:orders")
	s.Expect(t, 200, "GET", "/orders", fresh)
	s.Expect(t, 200, "GET", "/orders", seen)

	s.CLI(t, "keys", "purge", old)
	everyone := newWitnesses(t, s)
	harness.Eventually(t, time.Second, func() error {
		return errors.Join(everyone.say(401, seen)(), everyone.say(401, unseen)())
	})
	s.Expect(t, 401, "GET", "/orders", seen)
	s.Expect(t, 401, "GET", "/orders", unseen)
	s.Expect(t, 200, "GET", "/orders", fresh)
	if strings.Contains(s.Expect(t, 200, "GET", "/oauth/keys", "").Body, old) {
		t.Error("a purged key is published")
	}
	// Purging the key that signs: its successor is there at once.
	s.CLI(t, "keys", "purge", keyOf(t, fresh))
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", fresh))
	next := s.Token(t, robot, "read:orders")
	harness.Eventually(t, 3*time.Second, s.Says(200, "GET", "/orders", next))
}
