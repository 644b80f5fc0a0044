package issuer

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// events are the names and results of the records that a query selects.
func (s *site) events(q store.EventQuery) (found []store.Event) {
	s.Helper()
	if err := s.server.audit.journal.Flush(s.Context()); err != nil {
		s.Fatal(err)
	}
	q.Limit = 1000
	found, _, _, err := s.server.store.Events(s.Context(), q)
	if err != nil {
		s.Fatal(err)
	}
	return found
}

// What is wrong with an authorization request is entered, whoever is told of it.
func TestRefusedAuthorizationsAreEntered(t *testing.T) {
	s := newSite(t)
	for _, request := range []url.Values{
		authorization("scope", "fly"), authorization("redirect_uri", "https://evil.example/"+strings.Repeat("x", 500)), authorization("client_id", "ghost"),
	} {
		s.browser().get(pathAuthorize + "?" + request.Encode())
	}
	got := s.events(store.EventQuery{Name: "authorization"})
	for i, want := range []store.Event{
		{Client: "web", Reason: "invalid_scope: an unknown scope was asked for", Detail: `scope "fly"`},
		{Reason: "invalid_request: the redirect URI is not registered for the client", Detail: `client "web", redirect URI "https://evil.example/xxx`},
		{Reason: "invalid_request: the client is not known", Detail: `client "ghost"`},
	} {
		if i >= len(got) || got[i].Name != "authorization.refuse" || got[i].Client != want.Client || got[i].Reason != want.Reason ||
			!strings.HasPrefix(got[i].Detail, want.Detail) || len(got[i].Detail) > maxCause || got[i].Address == "" {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

// What clients and people do is entered with who, from where and the outcome,
// and nothing that is secret.
func TestRequestsAreEntered(t *testing.T) {
	s := newSite(t)
	from := header("X-Forwarded-For", "198.51.100.7, 203.0.113.9")
	credentials := url.Values{"grant_type": {grantClientCredentials}}.Encode()
	issued := s.request("POST", pathToken, credentials, basic("machine", webSecret), from)
	access, _ := issued.json(t)["access_token"].(string)
	s.request("POST", pathToken, credentials, basic("machine", "wrong-secret"), from)
	s.request("POST", pathToken, credentials, basic("ghost", "wrong-secret"), from)
	s.request("POST", pathToken, url.Values{"grant_type": {grantClientCredentials}, "scope": {"read:profile"}}.Encode(), basic("machine", webSecret), from)
	s.request("POST", pathRevoke, url.Values{"token": {access}}.Encode(), basic("machine", webSecret), from)
	want := []store.Event{
		{Name: "token.issue", Result: "success", Client: "machine", Detail: grantClientCredentials},
		{Name: "token.refuse", Result: "failure", Client: "machine", Reason: "invalid_client: client authentication failed", Detail: `client "machine" does not prove itself with method client_secret_basic`},
		{Name: "token.refuse", Result: "failure", Reason: "invalid_client: client authentication failed", Detail: "no such client"},
		{Name: "token.refuse", Result: "failure", Client: "machine", Reason: "invalid_scope: the client may not ask for one of the scopes", Detail: `scope "read:profile"`},
	}
	got := s.events(store.EventQuery{Name: "token"})
	revoked := got[0] // in its own transaction, before the queue was written
	if revoked.Name != "token.revoke" || revoked.Client != "machine" || revoked.Address != "203.0.113.9" || revoked.Detail == "" {
		t.Errorf("the revocation is %+v", revoked)
	}
	if len(got) != len(want)+1 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	for i, e := range got[1:] {
		want[i].Sequence, want[i].At, want[i].Address = e.Sequence, e.At, "203.0.113.9"
		if e != want[i] {
			t.Errorf("event %d is %+v, want %+v", i, e, want[i])
		}
	}
	for _, e := range s.events(store.EventQuery{}) {
		if text := e.Reason + e.Detail; strings.Contains(text, "wrong-secret") || strings.Contains(text, access) || strings.Contains(text, webSecret) {
			t.Errorf("a secret was entered: %+v", e)
		}
	}
	if _, _, err := s.server.store.VerifyEvents(t.Context(), store.EventHead{}, 1000); err != nil {
		t.Error(err)
	}
}

// Whoever writes the name of a public client fills the audit log no more than
// other strangers do; a client that proved itself is entered each time.
func TestPublicNamesDoNotFillTheAuditLog(t *testing.T) {
	const tries = 700 // more than strangers may at once
	s := newSite(t)
	const wrong = "grant_type=refresh_token&refresh_token=none"
	for i := range tries {
		s.oauthError(s.request("POST", pathToken, wrong+"&client_id=spa", from(fmt.Sprintf("192.0.2.%d", i%50))), 400, codeInvalidGrant)
	}
	if n := len(s.events(store.EventQuery{Name: "token.refuse", Client: "spa"})); n == 0 || n > 600 {
		t.Errorf("%d of %d refusals were entered", n, tries)
	}
	if len(s.events(store.EventQuery{Name: "audit.suppressed"})) == 0 {
		t.Error("it is not told that some are missing")
	}
	for range 10 {
		s.oauthError(s.request("POST", pathToken, wrong, basic("web", webSecret)), 400, codeInvalidGrant)
	}
	if n := len(s.events(store.EventQuery{Name: "token.refuse", Client: "web"})); n != 10 {
		t.Errorf("%d of 10 refusals of a proven client were entered", n)
	}
}

// Whoever holds something that counted once cannot fill the audit log with it:
// the first replay is entered and acts, the others are counted.
func TestReplaysDoNotFillTheAuditLog(t *testing.T) {
	s := deviceSite(t)
	code, device, pushed := s.code(), s.device(), s.pushed(s.push(authorization()))
	refresh := s.tokenAs("web", redemption(code)).json(t)["refresh_token"].(string)
	s.clock.advance(pollInterval)
	tv := s.browser()
	tv.submit(tv.connect("alice", device), "decision", "allow")
	if a := s.poll(device); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	s.browser().get(pathAuthorize + "?" + pushed.Encode())
	key := s.signingClient("signer")
	assertion := s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	s.asserted(assertion)
	for name, row := range map[string]struct {
		replay func()
		most   int // rows
	}{
		// grant.revoke, token.replay, anomaly.replay, token.refuse and the summary.
		"code":             {func() { s.oauthError(s.tokenAs("web", redemption(code)), 400, codeInvalidGrant) }, 5},
		"device code":      {func() { s.oauthError(s.poll(device), 400, codeInvalidGrant) }, 5},
		"request_uri":      {func() { s.browser().get(pathAuthorize + "?" + pushed.Encode()) }, 0},
		"client assertion": {func() { s.oauthError(s.asserted(assertion), 401, codeInvalidClient) }, 155},
	} {
		before := len(s.events(store.EventQuery{}))
		for range 170 {
			row.replay()
		}
		if rows := len(s.events(store.EventQuery{})) - before; rows > row.most {
			t.Errorf("%s: %d rows", name, rows)
		}
	}
	if found := s.events(store.EventQuery{Name: "token.replay_repeated"}); len(found) != 2 || found[0].Detail != "169 used codes came once more" {
		t.Errorf("the summaries: %+v", found)
	}
	// The family is dead: its client is refused like for anything else.
	before := len(s.events(store.EventQuery{}))
	for range 700 {
		s.refreshWith(refresh)
	}
	if rows := len(s.events(store.EventQuery{})) - before; rows > 605 {
		t.Errorf("refresh token: %d rows", rows)
	}
}

// Who registers without being let in by anybody proves nothing by its secret.
func TestSelfMadeClientsDoNotFillTheAuditLog(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Registration = Registration{Access: registerOpen, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}}
	})
	m := s.jsonRequest("POST", pathRegister, "", robotMetadata()).json(t)
	id, secret, management := m["client_id"].(string), m["client_secret"].(string), m["registration_access_token"].(string)
	before, updated := len(s.events(store.EventQuery{})), 0
	for range 200 {
		s.request("POST", pathToken, machineGrant.Encode(), basic(id, secret))
		s.request("POST", pathToken, "grant_type=x", basic(id, secret))
	}
	for range updatesOfClient + 10 {
		a := s.jsonRequest("PUT", pathRegister+"?"+url.Values{"client_id": {id}}.Encode(), management, robotWith("client_id", id))
		if a.StatusCode == 200 {
			updated++
			management = a.json(t)["registration_access_token"].(string)
		} else if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	if rows := len(s.events(store.EventQuery{})) - before; rows > 150+updatesOfClient+3 || updated != updatesOfClient {
		t.Errorf("%d rows, %d updates", rows, updated)
	}
}
