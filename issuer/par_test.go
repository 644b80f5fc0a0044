package issuer

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// push pushes an authorization request of client web.
func (s *site) push(ask url.Values, change ...func(*http.Request)) answer {
	s.Helper()
	return s.request("POST", pathPush, ask.Encode(), append([]func(*http.Request){basic("web", webSecret)}, change...)...)
}

// pushed is the authorization request that names a pushed one.
func (s *site) pushed(a answer) url.Values {
	s.Helper()
	uri, _ := a.json(s)["request_uri"].(string)
	if a.StatusCode != http.StatusCreated || !strings.HasPrefix(uri, requestURIPrefix) || a.json(s)["expires_in"] != 60.0 {
		s.Fatalf("pushing: %d %s", a.StatusCode, a.body)
	}
	return url.Values{"client_id": {"web"}, "request_uri": {uri}}
}

func TestPushedRequest(t *testing.T) {
	s := newSite(t)
	ask := s.pushed(s.push(authorization()))
	code := s.browser().allow("alice", ask).Query().Get("code")
	if a := s.tokenAs("web", redemption(code)); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	// Only once (RFC 9126 §7.3), and a page says so: nobody's redirect is proven.
	if a := s.browser().get(pathAuthorize + "?" + ask.Encode()); a.StatusCode != 400 || a.Header.Get("Location") != "" {
		t.Errorf("a second time: %d %q", a.StatusCode, a.Header.Get("Location"))
	}
	if strings.Contains(s.backup(), strings.TrimPrefix(ask.Get("request_uri"), requestURIPrefix)) {
		t.Error("the request_uri is stored in the plain")
	}
}

func TestPushAttacks(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	for _, row := range []struct {
		clause string
		ask    url.Values
		change func(*http.Request)
		status int
		code   string
	}{
		{"RFC 9126 §2 no authentication", authorization(), func(r *http.Request) { r.Header.Del("Authorization") }, 401, codeInvalidClient},
		{"RFC 9126 §2 a wrong secret", authorization(), basic("web", "wrong"), 401, codeInvalidClient},
		{"RFC 9126 §2.1 request_uri", authorization("request_uri", requestURIPrefix+"x"), nil, 400, codeInvalidRequest},
		{"RFC 9126 §2.1 client_id is another", authorization("client_id", "web2"), nil, 400, codeInvalidRequest},
		{"RFC 9126 §2.1 a request object", authorization("request", "e30.e30."), nil, 400, codeRequestNotSupported},
		{"RFC 9126 §2.3 no redirect URI", authorization("redirect_uri", ""), nil, 400, codeInvalidRequest},
		{"RFC 9126 §2.3 a foreign redirect URI", authorization("redirect_uri", "https://evil.example/"), nil, 400, codeInvalidRequest},
		{"RFC 9126 §2.3 an unknown scope", authorization("scope", "admin"), nil, 400, codeInvalidScope},
		{"RFC 9126 §2.3 an unknown resource", authorization("resource", "https://x.example"), nil, 400, codeInvalidTarget},
		{"RFC 9126 §2.3 no PKCE", authorization("code_challenge", ""), nil, 400, codeInvalidRequest},
		{"RFC 9126 §2.3 too large", authorization("state", strings.Repeat("x", maxForm)), nil, 413, codeInvalidRequest},
		{"RFC 9126 §2.3 large and of no use", authorization("x", strings.Repeat("x", maxPushed)), nil, 413, codeInvalidRequest},
		{"RFC 9449 §10.1 dpop_jkt is another key", authorization("dpop_jkt", tokentest.NewKey("ES256").Thumbprint()), s.proof(key, "POST", pathPush, ""), 400, codeInvalidRequest},
		{"RFC 9449 §10.1 the proof of another endpoint", authorization(), s.proof(key, "POST", pathToken, ""), 400, codeInvalidProof},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			change := row.change
			if change == nil {
				change = func(*http.Request) {}
			}
			s.oauthError(s.push(row.ask, change), row.status, row.code)
		})
	}
	t.Run("RFC 6749 §3.1 a parameter twice", func(t *testing.T) {
		s.oauthError(s.request("POST", pathPush, authorization().Encode()+"&scope=x", basic("web", webSecret)), 400, codeInvalidRequest)
	})
	if a := s.request("GET", pathPush, ""); a.StatusCode != 405 {
		t.Errorf("RFC 9126 §2.3 GET: %d", a.StatusCode)
	}
}

// A pushed request is its client's, once and for a minute; a wrong use of its
// name leaves it as it is.
func TestPushedRequestIsBound(t *testing.T) {
	s := newSite(t)
	ask := s.pushed(s.push(authorization()))
	refused := func(name string, ask url.Values, pairs ...string) {
		t.Helper()
		ask = with(maps.Clone(ask), pairs...)
		if a := s.browser().get(pathAuthorize + "?" + ask.Encode()); a.StatusCode != 400 || a.Header.Get("Location") != "" {
			t.Errorf("%s: %d %q", name, a.StatusCode, a.Header.Get("Location"))
		}
	}
	refused("another client", ask, "client_id", "web2")
	refused("no client", ask, "client_id", "")
	refused("a scope beside it", ask, "scope", "openid")
	refused("a redirect URI beside it", ask, "redirect_uri", "https://app.example/q?a=1")
	if a := s.browser().get(pathAuthorize + "?" + ask.Encode()); a.StatusCode != 200 {
		t.Errorf("its own client: %d", a.StatusCode)
	}
	late := s.pushed(s.push(authorization()))
	s.clock.advance(pushedLifetime)
	refused("too late", late)
}

func TestPushedRequestCountsOnce(t *testing.T) {
	s := newSite(t)
	ask := s.pushed(s.push(authorization()))
	var shown atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if s.request("GET", pathAuthorize+"?"+ask.Encode(), "").StatusCode == http.StatusSeeOther {
				shown.Add(1)
			}
		})
	}
	wg.Wait()
	if shown.Load() != 1 {
		t.Errorf("it counted %d times", shown.Load())
	}
}

func TestClientsThatMustPush(t *testing.T) {
	s := newSite(t)
	s.register(store.Client{
		ID: "pusher", Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantAuthorizationCode},
		Scopes: []string{"read:orders"}, RedirectURIs: []string{webCB}, RequirePushed: true,
	})
	ask := authorization("client_id", "pusher", "scope", "openid read:orders")
	if q := s.browser().allow("alice", ask).Query(); q.Get("error") != codeInvalidRequest || q.Get("code") != "" {
		t.Errorf("not pushed: %v", q)
	}
	a := s.request("POST", pathPush, ask.Encode(), basic("pusher", webSecret))
	if q := s.browser().allow("alice", with(s.pushed(a), "client_id", "pusher")).Query(); q.Get("code") == "" {
		t.Errorf("pushed: %v", q)
	}
	all := newSite(t, func(c *Config) { c.RequirePushedRequests = true })
	if q := all.browser().allow("alice", authorization()).Query(); q.Get("error") != codeInvalidRequest {
		t.Errorf("where all must push: %v", q)
	}
	if all.request("GET", pathDiscovery, "").json(t)["require_pushed_authorization_requests"] != true {
		t.Error("it is not advertised")
	}
}

// A proof with the pushed request binds the code to its key (RFC 9449 §10.1).
func TestPushedProofBindsTheCode(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	code := s.browser().allow("alice", s.pushed(s.push(authorization(), s.proof(key, "POST", pathPush, "")))).Query().Get("code")
	s.oauthError(s.tokenAs("web", redemption(code)), 400, codeInvalidGrant)
	code = s.browser().allow("alice", s.pushed(s.push(authorization(), s.proof(key, "POST", pathPush, "")))).Query().Get("code")
	if a := s.tokenWith(redemption(code), basic("web", webSecret), s.proof(key, "POST", pathToken, "")); a.StatusCode != 200 {
		t.Error(a.body)
	}
}

// from is an address that the gateway says a request comes from.
func from(address string) func(*http.Request) { return header("X-Forwarded-For", address) }

// Strangers with the name of a public client cannot fill the store, and one of
// them cannot use up what there is for all.
func TestPushesOfPublicClientsAreBounded(t *testing.T) {
	s := newSite(t)
	ask := authorization("client_id", "spa", "redirect_uri", "https://spa.example/", "scope", "openid read:orders").Encode()
	// flood pushes until it has to wait.
	flood := func(address func(i int) string) (created int) {
		t.Helper()
		for i := range pushesAtOnce + 1 {
			switch a := s.request("POST", pathPush, ask, from(address(i))); {
			case a.StatusCode == http.StatusCreated:
				created++
			case a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "":
				t.Fatalf("%d %s", a.StatusCode, a.body)
			default:
				return created
			}
		}
		return created
	}
	for name, address := range map[string]func(int) string{
		"one address":            func(int) string { return "192.0.2.1" },
		"one network of IPv6":    func(i int) string { return fmt.Sprintf("2001:db8::%x", i) },
		"what it says itself":    func(i int) string { return fmt.Sprintf("198.51.100.%d, 192.0.2.3", i) },
		"one address, as IPv6":   func(int) string { return "::ffff:192.0.2.4" },
		"a header of no address": func(i int) string { return fmt.Sprint("x", i) },
	} {
		if created := flood(address); created != pushesOfAddress {
			t.Errorf("%s: %d were stored", name, created)
		}
	}
	if a := s.request("POST", pathPush, ask, from("192.0.2.200")); a.StatusCode != http.StatusCreated {
		t.Errorf("another address waits for them: %d", a.StatusCode)
	}
	if created := flood(func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250) }); created != pushesAtOnce-5*pushesOfAddress-1 {
		t.Errorf("from everywhere: %d were stored", created)
	}
	if a := s.push(authorization(), from("192.0.2.1")); a.StatusCode != http.StatusCreated {
		t.Errorf("a client that proves itself waits for them: %d", a.StatusCode)
	}
	s.clock.advance(pushEveryOfAddress)
	if a := s.request("POST", pathPush, ask, from("192.0.2.1")); a.StatusCode != http.StatusCreated {
		t.Errorf("after a while: %d", a.StatusCode)
	}
}

// Whoever registers without being let in by anybody is a stranger still, with
// whatever proof.
func TestPushesOfSelfMadeClientsAreBounded(t *testing.T) {
	s := newSite(t)
	made := store.Client{
		ID: "dyn_x", Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantAuthorizationCode},
		Scopes: []string{"read:orders"}, RedirectURIs: []string{webCB}, Registration: &store.Registration{},
	}
	invited := made
	invited.ID, invited.Registration = "dyn_y", &store.Registration{TokenID: "rgt_1"}
	for _, row := range []struct {
		client store.Client
		most   int
	}{{made, pushesOfAddress}, {invited, pushesOfAddress + 10}} {
		s.register(row.client)
		ask, created := authorization("client_id", row.client.ID, "scope", "openid").Encode(), 0
		for range pushesOfAddress + 10 {
			if s.request("POST", pathPush, ask, basic(row.client.ID, webSecret)).StatusCode == http.StatusCreated {
				created++
			}
		}
		if created != row.most {
			t.Errorf("%s: %d were stored", row.client.ID, created)
		}
	}
}
