package issuer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
)

// exchangers lets svc exchange orders tokens for profile tokens in each way, and
// deep pass profile tokens on.
func exchangers(c *Config) {
	c.TokenExchange = []TokenExchange{
		{Client: "svc", SubjectAudience: ordersAPI, Target: profileAPI, Allow: []string{delegation}, Scopes: map[string][]string{"read:orders": {"read:profile"}}},
		{Client: "ghost", SubjectAudience: ordersAPI, Target: profileAPI, Allow: []string{impersonation}, Scopes: map[string][]string{"read:orders": {"read:profile"}}},
		{Client: "either", SubjectAudience: ordersAPI, Target: profileAPI, Allow: []string{delegation, impersonation}, Scopes: map[string][]string{"read:orders": {"read:profile"}}},
		{Client: "deep", SubjectAudience: profileAPI, Target: ordersAPI, Allow: []string{delegation}, Scopes: map[string][]string{"read:profile": {"read:orders"}}},
	}
}

func exchangeSite(t *testing.T, options ...func(*Config)) *site {
	t.Helper()
	s := newSite(t, append([]func(*Config){exchangers}, options...)...)
	for _, id := range []string{"svc", "ghost", "either", "deep", "nobody"} {
		s.addClient(store.Client{ID: id, GrantTypes: []string{grantTokenExchange, grantClientCredentials}, Scopes: []string{"read:orders", "read:profile"}})
	}
	s.addClient(store.Client{ID: "poor", GrantTypes: []string{grantTokenExchange}})
	return s
}

// addClient adds a confidential client.
func (s *site) addClient(c store.Client) {
	s.Helper()
	c.Type, c.Secret = store.Confidential, store.HashOf(webSecret)
	if err := s.server.store.CreateClient(s.Context(), c); err != nil {
		s.Fatal(err)
	}
}

// exchange is a sound request for a profile token; pairs change it.
func exchange(subject any, pairs ...string) url.Values {
	compact, _ := subject.(string)
	return with(url.Values{
		"grant_type": {grantTokenExchange}, "subject_token": {compact}, "subject_token_type": {typeAccessToken}, "resource": {profileAPI},
	}, pairs...)
}

// own is a token that a client has for itself.
func (s *site) own(client string) any {
	s.Helper()
	return s.tokenAs(client, url.Values{"grant_type": {grantClientCredentials}, "resource": {ordersAPI}}).json(s)["access_token"]
}

// exchanged is a token that must be given.
func (s *site) exchanged(client string, request url.Values) any {
	s.Helper()
	a := s.tokenAs(client, request)
	if a.StatusCode != http.StatusOK {
		s.Fatalf("exchanging as %s: %d %s", client, a.StatusCode, a.body)
	}
	return a.json(s)["access_token"]
}

func TestExchangeByDelegation(t *testing.T) {
	s := exchangeSite(t)
	got := s.tokens()
	parent := s.claims(got["access_token"])
	s.clock.advance(4 * time.Minute)
	a := s.tokenAs("svc", exchange(got["access_token"], "actor_token", s.own("svc").(string), "actor_token_type", typeAccessToken))
	answer := a.json(t)
	delete(answer, "access_token")
	if diff := cmp.Diff(map[string]any{"token_type": "Bearer", "issued_token_type": typeAccessToken, "expires_in": 360.0, "scope": "read:profile"}, answer); diff != "" {
		t.Fatalf("%d %s", a.StatusCode, diff)
	}
	child := s.claims(a.json(t)["access_token"])
	if child.Subject() != "usr_alice" || child.SubjectType() != "user" || child.ClientID() != "svc" || !slices.Equal(child.Audience(), []string{profileAPI}) ||
		!slices.Equal(child.Scopes(), []string{"read:profile"}) || child.SessionID() != parent.SessionID() || child.GrantID() != parent.GrantID() || !slices.Equal(child.Roles(), []string{"customer"}) {
		t.Errorf("claims %v", child.Raw())
	}
	if child.ExpiresAt().After(parent.ExpiresAt()) {
		t.Error("the child outlives its parent")
	}
	raw := child.Raw()
	if diff := cmp.Diff(map[string]any{"sub": "svc"}, raw["act"]); diff != "" || raw["auth_time"] == nil {
		t.Errorf("act %s, auth_time %v", diff, raw["auth_time"])
	}
	// Whoever asks the issuer learns what the token says: that somebody acts, too.
	told := s.request("POST", pathIntrospect, url.Values{"token": {a.json(t)["access_token"].(string)}}.Encode(), basic("svc", webSecret)).json(t)
	if diff := cmp.Diff(raw["act"], told["act"]); diff != "" || told["active"] != true || told["sid"] != child.SessionID() || !cmp.Equal(told["roles"], raw["roles"]) || told["derived_from"] != nil {
		t.Errorf("introspection %v, act %s", told, diff)
	}
	if len(child.Ancestors()) != 2 || child.Ancestors()[0].ID != parent.ID() {
		t.Errorf("ancestors %v", child.Ancestors())
	}
	if !strings.Contains(s.log.String(), "token exchanged") {
		t.Error("the audit knows nothing of it")
	}
}

func TestExchangeModes(t *testing.T) {
	s := exchangeSite(t)
	subject := s.tokens()["access_token"]
	for _, row := range []struct {
		client string
		actor  bool
		act    any
	}{
		{"svc", false, map[string]any{"sub": "svc"}}, {"svc", true, map[string]any{"sub": "svc"}},
		{"ghost", false, nil},
		{"either", false, nil}, {"either", true, map[string]any{"sub": "either"}},
	} {
		request := exchange(subject)
		if row.actor {
			request = exchange(subject, "actor_token", s.own(row.client).(string), "actor_token_type", typeAccessToken)
		}
		raw := s.claims(s.exchanged(row.client, request)).Raw()
		if diff := cmp.Diff(row.act, raw["act"]); diff != "" || raw["client_id"] != row.client || raw["sub"] != "usr_alice" {
			t.Errorf("%s, actor token %t: %s in %v", row.client, row.actor, diff, raw)
		}
	}
}

// A client's own token is exchanged too, and stays a client's.
func TestExchangeOfAClientsToken(t *testing.T) {
	s := exchangeSite(t)
	child := s.claims(s.exchanged("svc", exchange(s.own("machine"))))
	if child.Subject() != "machine" || child.ClientID() != "svc" || child.SubjectType() != "client" || child.Roles() != nil || child.Raw()["auth_time"] != nil {
		t.Errorf("claims %v", child.Raw())
	}
}

// One row, one way to get more than was meant.
func TestExchangeAttacks(t *testing.T) {
	s := exchangeSite(t)
	got := s.tokens()
	subject, own := got["access_token"].(string), s.own("svc").(string)
	derived := s.exchanged("svc", exchange(subject)).(string)
	signed := func(typ string, changes map[string]any) string { return s.forged(typ, subject, changes) }
	bob := s.tokenAs("web", redemption(s.browser().allow("bob", authorization("scope", "read:orders")).Query().Get("code"))).json(t)["access_token"].(string)
	for _, row := range []struct {
		clause  string
		client  string
		request url.Values
		status  int
		code    string
	}{
		{"RFC 8693 §2.1 no subject_token", "svc", exchange(""), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 no subject_token_type", "svc", exchange(subject, "subject_token_type", ""), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 subject_token_type of another kind", "svc", exchange(subject, "subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 requested_token_type of another kind", "svc", exchange(subject, "requested_token_type", "urn:ietf:params:oauth:token-type:id_token"), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 actor_token_type without actor_token", "svc", exchange(subject, "actor_token_type", typeAccessToken), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 actor_token without its type", "svc", exchange(subject, "actor_token", own), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 no target", "svc", exchange(subject, "resource", ""), 400, codeInvalidRequest},
		{"RFC 8693 §2.1 two targets", "svc", exchange(subject, "audience", ordersAPI), 400, codeInvalidTarget},
		{"RFC 8693 §2.2.2 unknown target", "svc", exchange(subject, "resource", "https://other.example"), 400, codeInvalidTarget},
		{"RFC 8693 §2.2.2 a target that no entry names", "svc", exchange(subject, "resource", ordersAPI), 400, codeInvalidTarget},
		{"RFC 8693 §2.2.2 the issuer as target", "svc", exchange(subject, "resource", s.url), 400, codeInvalidTarget},
		{"RFC 8693 §2.2.2 a client that no entry names", "nobody", exchange(subject), 400, codeInvalidTarget},
		{"RFC 8693 §2.2.2 a token that is for somebody else", "deep", exchange(subject, "resource", ordersAPI), 400, codeInvalidTarget},
		{"RFC 8693 §2.1 a client without the grant", "machine", exchange(subject), 400, codeUnauthorizedClient},
		{"RFC 8693 §2.1 scope that the entry does not open", "svc", exchange(subject, "scope", "read:profile read:orders"), 400, codeInvalidScope},
		{"RFC 8693 §2.1 scope of the person", "svc", exchange(subject, "scope", "openid"), 400, codeInvalidScope},
		{"RFC 8693 §2.1 scope of no grammar", "svc", exchange(subject, "scope", "a  b"), 400, codeInvalidScope},
		{"a scope that the person's roles do not give", "svc", exchange(bob), 400, codeInvalidScope},
		{"RFC 8693 §2.2.2 garbage", "svc", exchange("x.y.z"), 400, codeInvalidRequest},
		{"RFC 8693 §2.2.2 another's signature", "svc", exchange(subject[:len(subject)-10] + "AAAAAAAAAA"), 400, codeInvalidRequest},
		{"RFC 8725 §3.11 an ID token", "svc", exchange(got["id_token"]), 400, codeInvalidRequest},
		{"RFC 8725 §3.11 a token of ours of another type", "svc", exchange(signed("logout+jwt", nil)), 400, codeInvalidRequest},
		{"RFC 8693 §2.2.2 a refresh token", "svc", exchange(got["refresh_token"]), 400, codeInvalidRequest},
		{"RFC 8693 §2.2.2 another's token as actor", "svc", exchange(subject, "actor_token", s.own("machine").(string), "actor_token_type", typeAccessToken), 400, codeInvalidRequest},
		{"RFC 8693 §2.2.2 a person's token as actor", "svc", exchange(subject, "actor_token", subject, "actor_token_type", typeAccessToken), 400, codeInvalidRequest},
		{"RFC 8693 §2.2.2 a derived token as actor", "svc", exchange(subject, "actor_token", derived, "actor_token_type", typeAccessToken), 400, codeInvalidRequest},
		{"RFC 8693 §1.1 delegation where only impersonation is allowed", "ghost", exchange(subject, "actor_token", s.own("ghost").(string), "actor_token_type", typeAccessToken), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act names another", "svc", exchange(signed("at+jwt", map[string]any{"may_act": map[string]any{"sub": "other"}})), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act with a condition that is not understood", "svc", exchange(signed("at+jwt", map[string]any{"may_act": map[string]any{"sub": "svc", "x": 1}})), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act without sub", "svc", exchange(signed("at+jwt", map[string]any{"may_act": map[string]any{}})), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act of no kind", "svc", exchange(signed("at+jwt", map[string]any{"may_act": "svc"})), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act null", "svc", exchange(signed("at+jwt", map[string]any{"may_act": nil})), 400, codeInvalidRequest},
		{"RFC 8693 §4.4 may_act of another issuer", "svc", exchange(signed("at+jwt", map[string]any{"may_act": map[string]any{"sub": "svc", "iss": "https://other.example"}})), 400, codeInvalidRequest},
		{"a person who is gone", "svc", exchange(signed("at+jwt", map[string]any{"sub": "usr_gone"})), 400, codeInvalidRequest},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			s.oauthError(s.tokenAs(row.client, row.request), row.status, row.code)
		})
	}
	s.exchanged("svc", exchange(signed("at+jwt", map[string]any{"may_act": map[string]any{"sub": "svc", "iss": s.url}})))
}

// forged is a token signed with our own key, as another with changed claims:
// what the issuer does not mint yet, or never.
func (s *site) forged(typ, like string, changes map[string]any) string {
	s.Helper()
	_, claims := decodeJWS(s, like)
	for name, value := range changes {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		s.Fatal(err)
	}
	signed, err := s.server.keys.Sign(s.Context(), keys.ES256, typ, payload)
	if err != nil {
		s.Fatal(err)
	}
	return signed
}

// Tokens may be passed on only so often, and each link is named.
func TestExchangeChains(t *testing.T) {
	s := exchangeSite(t)
	access := s.tokens()["access_token"]
	var want any
	for i := range maxActors {
		client, target := "svc", profileAPI
		if i%2 == 1 {
			client, target = "deep", ordersAPI
		}
		access = s.exchanged(client, exchange(access, "resource", target))
		link := map[string]any{"sub": client}
		if want != nil {
			link["act"] = want
		}
		want = link
		claims := s.claims(access)
		if diff := cmp.Diff(want, claims.Raw()["act"]); diff != "" || len(claims.Ancestors()) != i+1 {
			t.Errorf("link %d: %s, ancestors %v", i, diff, claims.Ancestors())
		}
	}
	s.oauthError(s.tokenAs("svc", exchange(access)), 400, codeInvalidRequest)
}

// Whatever ends the token that was presented ends what was made of it.
func TestParentEndsItsChildren(t *testing.T) {
	for name, end := range map[string]func(*site, map[string]any) error{
		"its own revocation": func(s *site, got map[string]any) error {
			a := s.request("POST", pathRevoke, url.Values{"token": {got["access_token"].(string)}}.Encode(), basic("web", webSecret))
			if a.StatusCode != http.StatusOK {
				s.Fatal(a.body)
			}
			return nil
		},
		"its refresh token's": func(s *site, got map[string]any) error {
			a := s.request("POST", pathRevoke, url.Values{"token": {got["refresh_token"].(string)}}.Encode(), basic("web", webSecret))
			if a.StatusCode != http.StatusOK {
				s.Fatal(a.body)
			}
			return nil
		},
		"its session's": func(s *site, got map[string]any) error {
			return s.server.store.RevokeSession(s.Context(), s.claims(got["access_token"]).SessionID())
		},
		"its user's":   func(s *site, _ map[string]any) error { return s.server.store.RevokeUser(s.Context(), "usr_alice") },
		"its client's": func(s *site, _ map[string]any) error { return s.server.store.RevokeClient(s.Context(), "web") },
		"its client's deletion": func(s *site, _ map[string]any) error {
			return s.server.store.DeleteClient(s.Context(), "web")
		},
		"its key's": func(s *site, got map[string]any) error {
			return s.server.keys.Purge(s.Context(), s.claims(got["access_token"]).KeyID())
		},
		"the exchanging client's": func(s *site, _ map[string]any) error { return s.server.store.RevokeClient(s.Context(), "svc") },
	} {
		t.Run(name, func(t *testing.T) {
			s := exchangeSite(t, func(c *Config) { c.APIs[1].Algorithm = keys.EdDSA }) // the child has another key
			got := s.tokens()
			child := s.exchanged("svc", exchange(got["access_token"]))
			grandchild := s.exchanged("deep", exchange(child, "resource", ordersAPI))
			bystander := refsOf(s.claims(s.exchanged("ghost", exchange(s.own("machine")))))
			refs := refsOf(s.claims(child))
			further := refsOf(s.claims(grandchild))
			if err := end(s, got); err != nil {
				t.Fatal(err)
			}
			for who, r := range map[string]store.TokenRefs{"child": refs, "grandchild": further} {
				if alive, err := s.server.store.Alive(t.Context(), r); err != nil || alive {
					t.Errorf("the %s is alive: %v", who, err)
				}
			}
			s.oauthError(s.tokenAs("deep", exchange(child, "resource", ordersAPI)), 400, codeInvalidRequest)
			if name == "its key's" { // which signed the bystander's parent too
				return
			}
			if alive, err := s.server.store.Alive(t.Context(), bystander); err != nil || !alive {
				t.Errorf("another's token: %v", err)
			}
		})
	}
}

// Many exchange the same token while it is revoked: whatever was given is dead,
// for it descends from it, and each token is its own.
func TestParallelExchange(t *testing.T) {
	s := exchangeSite(t)
	got := s.tokens()
	var mu sync.Mutex
	var given []any
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if i == 16 {
				if err := s.server.store.RevokeToken(t.Context(), s.claims(got["access_token"]).ID(), s.clock.now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
			a := s.tokenAs("svc", exchange(got["access_token"]))
			if a.StatusCode != http.StatusOK {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			given = append(given, a.json(t)["access_token"])
		})
	}
	wg.Wait()
	ids := map[string]bool{}
	for _, access := range given {
		claims := s.claims(access)
		if ids[claims.ID()] {
			t.Error("two exchanges gave one token")
		}
		ids[claims.ID()] = true
		if alive, err := s.server.store.Alive(t.Context(), refsOf(claims)); err != nil || alive {
			t.Errorf("a child is alive: %v", err)
		}
	}
	s.oauthError(s.tokenAs("svc", exchange(got["access_token"])), 400, codeInvalidRequest)
}

// The entry says what may be; the client's registration and the person's roles
// limit it further, and so does the clock.
func TestExchangeLimits(t *testing.T) {
	s := exchangeSite(t, func(c *Config) {
		c.TokenExchange = append(c.TokenExchange, TokenExchange{Client: "poor", SubjectAudience: ordersAPI, Target: profileAPI, Allow: []string{delegation}, Scopes: map[string][]string{"read:orders": {"read:profile"}}})
	})
	both := s.tokens("scope", "read:orders read:profile")["access_token"]
	s.oauthError(s.tokenAs("poor", exchange(both)), 400, codeInvalidScope)
	if scopes := s.claims(s.exchanged("svc", exchange(both, "scope", "read:profile"))).Scopes(); !slices.Equal(scopes, []string{"read:profile"}) {
		t.Errorf("scopes %v", scopes)
	}
	if metadata := s.request("GET", pathDiscovery, "").json(t)["grant_types_supported"]; !slices.Contains(metadata.([]any), any(grantTokenExchange)) {
		t.Errorf("advertised are %v", metadata)
	}
	s.clock.advance(10*time.Minute - time.Second)
	if a := s.tokenAs("svc", exchange(both)); a.json(t)["expires_in"] != 1.0 {
		t.Errorf("in the last second: %s", a.body)
	}
	s.clock.advance(time.Second)
	s.oauthError(s.tokenAs("svc", exchange(both)), 400, codeInvalidRequest)
}
