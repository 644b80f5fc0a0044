package issuer

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// A relying party that we did not write gets through the whole way: discovery,
// code with PKCE, ID token (signature, nonce, at_hash), userinfo, refresh.
func TestRelyingParty(t *testing.T) {
	s := newSite(t)
	s.clock.advance(time.Since(s.clock.now())) // the client has a clock of its own
	client := &http.Client{Transport: s.http.Transport}
	nonce := "a-nonce"
	party, err := rp.NewRelyingPartyOIDC(t.Context(), s.url, "web", webSecret, webCB, []string{"openid", "profile", "offline_access", "read:orders"},
		rp.WithHTTPClient(client), rp.WithVerifierOpts(rp.WithNonce(func(context.Context) string { return nonce })))
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	target := rp.AuthURL("a-state", party, rp.WithCodeChallenge(challengeOf(testVerifier)), rp.AuthURLOpt(rp.WithURLParam("nonce", "a-nonce")))
	page := b.submit(b.get(target), "login", "alice", "password", rightWords)
	answered := b.ended(b.submit(page, "decision", "allow")).Query()
	if answered.Get("state") != "a-state" || answered.Get("iss") != party.Issuer() {
		t.Fatalf("answered %v", answered)
	}
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), answered.Get("code"), party, rp.WithCodeVerifier(testVerifier))
	if err != nil {
		t.Fatal(err)
	}
	info, err := rp.Userinfo[*oidc.UserInfo](t.Context(), tokens.AccessToken, tokens.TokenType, tokens.IDTokenClaims.Subject, party)
	if err != nil || info.Name != "Alice Example" {
		t.Errorf("userinfo %+v, %v", info, err)
	}
	nonce = "" // an ID token of a refresh has none (Core §12.2)
	renewed, err := rp.RefreshTokens[*oidc.IDTokenClaims](t.Context(), party, tokens.RefreshToken, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := rp.RevokeToken(t.Context(), party, renewed.RefreshToken, "refresh_token"); err != nil {
		t.Errorf("revocation: %v", err)
	}
	if a := s.refreshWith(renewed.RefreshToken); a.StatusCode != http.StatusBadRequest {
		t.Errorf("after the revocation: %d", a.StatusCode)
	}
	machine, err := rp.NewRelyingPartyOIDC(t.Context(), s.url, "machine", webSecret, "", []string{"read:orders"}, rp.WithHTTPClient(client))
	if err != nil {
		t.Fatal(err)
	}
	if token, err := rp.ClientCredentials(t.Context(), machine, nil); err != nil || token.AccessToken == "" {
		t.Errorf("client credentials: %v", err)
	}
}
