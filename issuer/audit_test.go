package issuer

import (
	"net/url"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/issuer/store"
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
		{Name: "token.refuse", Result: "failure", Client: "machine", Reason: "invalid_client: client authentication failed"},
		{Name: "token.refuse", Result: "failure", Reason: "invalid_client: client authentication failed"},
		{Name: "token.refuse", Result: "failure", Client: "machine", Reason: "invalid_scope: the client may not ask for one of the scopes"},
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
	for range tries {
		s.oauthError(s.request("POST", pathToken, wrong+"&client_id=spa"), 400, codeInvalidGrant)
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
