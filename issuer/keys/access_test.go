package keys

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func newAccessTokens(t testing.TB, r *Ring) *AccessTokens {
	t.Helper()
	a, err := NewAccessTokens(r, AccessRules{Issuer: "https://issuer.example", Skew: 30 * time.Second, MaxLifetime: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func accessClaims(issuer string, life time.Duration, more string) []byte {
	now := time.Now()
	return fmt.Appendf(nil, `{"iss":%q,"sub":"app","client_id":"app","aud":"https://orders.example","scope":"read:orders","jti":"j","iat":%d,"exp":%d%s}`,
		issuer, now.Unix(), now.Add(life).Unix(), more)
}

// No token leaves that a gateway would refuse.
func TestAccessTokensAreVerifiedBeforeTheyLeave(t *testing.T) {
	a := newAccessTokens(t, loaded(t, testConfig, openStore(t), newKEK()))
	signed, err := a.SignAccessToken(t.Context(), ES256, accessClaims("https://issuer.example", 10*time.Minute, ""))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := a.Verify(t.Context(), signed)
	if err != nil || claims.Subject() != "app" || !claims.HasAudience("https://orders.example") {
		t.Errorf("%v, %v", claims, err)
	}
	for name, row := range map[string][]byte{
		"another issuer": accessClaims("https://other.example", time.Minute, ""),
		"too long":       accessClaims("https://issuer.example", 11*time.Minute, ""),
		"expired":        accessClaims("https://issuer.example", -time.Minute, ""),
		"a member twice": accessClaims("https://issuer.example", time.Minute, `,"sub":"other"`),
		"no claims":      []byte("{}"),
		"too large":      accessClaims("https://issuer.example", time.Minute, `,"x":"`+strings.Repeat("y", 9000)+`"`),
	} {
		if signed, err := a.SignAccessToken(t.Context(), ES256, row); err == nil {
			t.Errorf("%s: %s left", name, signed)
		}
	}
}

func TestAccessTokensFollowTheKeys(t *testing.T) {
	r := loaded(t, testConfig, openStore(t), newKEK())
	a := newAccessTokens(t, r)
	claims := accessClaims("https://issuer.example", time.Minute, "")
	old, err := a.SignAccessToken(t.Context(), ES256, claims)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Purge(t.Context(), signsWith(t, r)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SignAccessToken(t.Context(), ES256, claims); err != nil {
		t.Errorf("after a purge: %v", err)
	}
	if _, err := a.Verify(t.Context(), old); err == nil {
		t.Error("a token of the purged key verifies")
	}
}

func BenchmarkSignAccessToken(b *testing.B) {
	a := newAccessTokens(b, loaded(b, testConfig, openStore(b), newKEK()))
	claims := accessClaims("https://issuer.example", 10*time.Minute, "")
	for b.Loop() {
		if _, err := a.SignAccessToken(b.Context(), ES256, claims); err != nil {
			b.Fatal(err)
		}
	}
}
