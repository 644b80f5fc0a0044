package issuer

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// 32 tabs refresh with the same token at once: all get the same successor, and
// none logs the others out.
func TestParallelRefreshAgrees(t *testing.T) {
	s := newSite(t)
	first := s.tokens()
	won := s.race(32, url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {first["refresh_token"].(string)}})
	if len(won) != 32 {
		t.Fatalf("%d of 32 refreshes succeeded within the grace time", len(won))
	}
	for _, got := range won {
		if got["refresh_token"] != won[0]["refresh_token"] {
			t.Fatal("parallel refreshes got different successors")
		}
	}
	if a := s.refreshWith(won[0]["refresh_token"]); a.StatusCode != http.StatusOK {
		t.Errorf("the successor: %s", a.body)
	}
}

// Outside the grace time a second use revokes the family, and only it.
func TestRefreshReuseRevokesTheFamily(t *testing.T) {
	s := newSite(t)
	stolen, other := s.tokens(), s.tokens()
	next := s.refreshWith(stolen["refresh_token"]).json(t)
	s.clock.advance(s.server.config.RefreshGrace + time.Second)
	s.oauthError(s.refreshWith(stolen["refresh_token"]), 400, codeInvalidGrant)
	s.oauthError(s.refreshWith(next["refresh_token"]), 400, codeInvalidGrant)
	if alive, err := s.server.store.Alive(t.Context(), refsOf(s.claims(next["access_token"]))); err != nil || alive {
		t.Errorf("access tokens of the family: alive %t, %v", alive, err)
	}
	if a := s.refreshWith(other["refresh_token"]); a.StatusCode != http.StatusOK {
		t.Errorf("another grant of the same user and client: %s", a.body)
	}
}

// A used token is refused within the grace time too, once its successor was
// used.
func TestRefreshReuseBehindTheSuccessor(t *testing.T) {
	s := newSite(t)
	first := s.tokens()
	second := s.refreshWith(first["refresh_token"]).json(t)
	third := s.refreshWith(second["refresh_token"]).json(t)
	s.oauthError(s.refreshWith(first["refresh_token"]), 400, codeInvalidGrant)
	s.oauthError(s.refreshWith(third["refresh_token"]), 400, codeInvalidGrant)
}

func TestForeignClientCannotRefreshNorRevokeTheFamily(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	request := url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {got["refresh_token"].(string)}}
	s.oauthError(s.tokenAs("web2", request), 400, codeInvalidGrant)
	if a := s.refreshWith(got["refresh_token"]); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards the rightful client: %s", a.body)
	}
}

// A refresh that asks for what was not granted is refused before anything is
// used up.
func TestRefusedRefreshUsesNothingUp(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	for _, row := range []struct{ name, value, code string }{
		{"resource", profileAPI, codeInvalidTarget},
		{"scope", "offline_access", codeInvalidScope},
		{"scope", "write:orders", codeInvalidScope},
		{"scope", "a  b", codeInvalidScope},
	} {
		s.oauthError(s.refreshWith(got["refresh_token"], row.name, row.value), 400, row.code)
	}
	next := s.refreshWith(got["refresh_token"]).json(t)
	s.clock.advance(time.Hour)
	if a := s.refreshWith(next["refresh_token"]); a.StatusCode != http.StatusOK {
		t.Errorf("the family ended: %s", a.body)
	}
}

// Access while away outlives the browser's session, but not a logout.
func TestRefreshOutlivesTheSession(t *testing.T) {
	s := newSite(t)
	got := s.tokens()
	s.clock.advance(s.server.config.SessionLifetime + time.Hour)
	a := s.refreshWith(got["refresh_token"])
	if a.StatusCode != http.StatusOK {
		t.Fatalf("after the session's end: %s", a.body)
	}
	renewed := a.json(t)
	if err := s.server.store.RevokeSession(t.Context(), s.claims(renewed["access_token"]).SessionID()); err != nil {
		t.Fatal(err)
	}
	s.oauthError(s.refreshWith(renewed["refresh_token"]), 400, codeInvalidGrant)
}
