package issuer

import (
	"net/url"
	"strings"
	"testing"
)

// Strangers write nothing: whatever they send, the database stays as it is.
func TestStrangersWriteNothing(t *testing.T) {
	s := newSite(t)
	before := s.backup()
	for range 3 {
		b := s.browser()
		page := b.get(pathAuthorize + "?" + authorization().Encode())
		b.submit(page, "login", "alice", "password", "wrong")
		b.get("/oauth/end-session")
		s.tokenAs("nobody", redemption("x"))
		s.request("POST", pathRevoke, "token=x&client_id=spa")
		s.request("POST", pathToken, url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {"x"}, "client_id": {"spa"}}.Encode())
	}
	if s.backup() != before {
		t.Error("the database changed")
	}
}

func (s *site) backup() string {
	s.Helper()
	var copied strings.Builder
	if err := s.server.store.Backup(s.Context(), &copied); err != nil {
		s.Fatal(err)
	}
	return copied.String()
}

// No secret, code, token or password is ever logged.
func TestLogHasNoSecrets(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization().Encode())
	b.submit(page, "login", "alice", "password", "a-wrong-password")
	code := b.allow("alice", authorization()).Query().Get("code")
	tokens := s.tokenAs("web", redemption(code)).json(t)
	s.refreshWith(tokens["refresh_token"])
	s.request("POST", pathRevoke, url.Values{"token": {tokens["access_token"].(string)}}.Encode(), basic("web", webSecret))
	s.tokenAs("web", redemption(code))
	s.request("POST", pathToken, "grant_type=x", basic("web", "wrong-secret"))
	log := s.log.String()
	for name, secret := range map[string]string{
		"a password": rightWords, "a wrong password": "a-wrong-password", "a client secret": webSecret, "a wrong secret": "wrong-secret", "a code": code,
		"an access token": tokens["access_token"].(string), "a refresh token": tokens["refresh_token"].(string), "an ID token": tokens["id_token"].(string),
		"a verifier": testVerifier,
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s", name)
		}
	}
	for _, event := range []string{"event=authentication", "event=grant", "event=token", "event=revocation", "event=refusal", "event=replay"} {
		if !strings.Contains(log, event) {
			t.Errorf("the log has no %s", event)
		}
	}
}
