package issuer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const buildServer = "https://ci.example"

// voucherOf signs assertions of another issuer for a site.
type voucherOf struct {
	s    *site
	key  *tokentest.Key
	uses int
}

// vouchedSite trusts a build server for the client deployer, by a file.
func vouchedSite(t *testing.T) (*site, *voucherOf) {
	t.Helper()
	key := tokentest.NewKey("ES256")
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, tokentest.JWKS(key), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *Config) {
		c.AssertionIssuers = []AssertionIssuer{{
			Issuer: buildServer, JWKSFile: conf.Path(path), MaxLifetime: 5 * time.Minute,
			Subjects: map[string]string{"repo:shop:main": "deployer", "repo:shop:old": "gone", "repo:shop:off": "off", "repo:shop:web": "web"},
		}}
	})
	s.addClient(store.Client{ID: "deployer", GrantTypes: []string{grantJWTBearer}, Scopes: []string{"read:orders", "write:orders"}})
	s.addClient(store.Client{ID: "off", GrantTypes: []string{grantJWTBearer}, Scopes: []string{"read:orders"}, Disabled: true})
	return s, &voucherOf{s: s, key: key}
}

// assertion is a sound one with another jti each time, changed.
func (v *voucherOf) assertion(pairs ...any) string {
	v.uses++
	now := v.s.clock.now()
	claims := map[string]any{
		"iss": buildServer, "sub": "repo:shop:main", "aud": v.s.url, "jti": store.NewID(""), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	for i := 0; i < len(pairs); i += 2 {
		claims[pairs[i].(string)] = pairs[i+1]
	}
	return v.key.Sign(tokentest.With(v.key.Header(), map[string]any{"typ": "JWT"}), claims)
}

func (s *site) bearer(assertion string, pairs ...string) answer {
	s.Helper()
	return s.request("POST", pathToken, with(url.Values{"grant_type": {grantJWTBearer}, "assertion": {assertion}}, pairs...).Encode())
}

// Who another issuer vouches for gets the client's token without a secret.
func TestJWTBearer(t *testing.T) {
	s, v := vouchedSite(t)
	a := s.bearer(v.assertion(), "scope", "read:orders", "client_id", "deployer")
	if a.StatusCode != http.StatusOK {
		t.Fatal(a.body)
	}
	got := a.json(t)
	claims := s.claims(got["access_token"])
	if claims.Subject() != "deployer" || claims.ClientID() != "deployer" || claims.SubjectType() != "client" || got["scope"] != "read:orders" || got["refresh_token"] != nil {
		t.Errorf("answered %v", got)
	}
	if metadata := s.request("GET", pathDiscovery, "").json(t)["grant_types_supported"]; !slices.Contains(metadata.([]any), any(grantJWTBearer)) {
		t.Errorf("advertised are %v", metadata)
	}
	if plain := newSite(t); slices.Contains(plain.request("GET", pathDiscovery, "").json(t)["grant_types_supported"].([]any), any(grantJWTBearer)) {
		t.Error("advertised where nobody vouches")
	}
}

// One row, one clause, at the token endpoint; the assertion itself is attacked
// in package token.
func TestJWTBearerAttacks(t *testing.T) {
	s, v := vouchedSite(t)
	used := v.assertion()
	s.bearer(used)
	other := tokentest.NewKey("ES256")
	forged := other.WithID(v.key.ID()).Sign(tokentest.With(v.key.Header(), map[string]any{"typ": "JWT"}), map[string]any{"iss": buildServer, "sub": "repo:shop:main", "aud": s.url, "jti": "j", "iat": s.clock.now().Unix(), "exp": s.clock.now().Add(time.Minute).Unix()})
	own := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)["access_token"].(string)
	for _, row := range []struct {
		clause string
		answer answer
		code   string
	}{
		{"RFC 7523 §2.1 no assertion", s.bearer(""), codeInvalidRequest},
		{"RFC 7523 §2.1 garbage", s.bearer("x.y.z"), codeInvalidGrant},
		{"RFC 7523 §3 no. 1 an issuer that vouches for nobody", s.bearer(v.assertion("iss", "https://other.example")), codeInvalidGrant},
		{"RFC 7523 §3 no. 1 ourselves", s.bearer(v.assertion("iss", s.url)), codeInvalidGrant},
		{"RFC 7523 §3 no. 1 an access token of ours", s.bearer(own), codeInvalidGrant},
		{"RFC 7523 §3 no. 2 a subject that is no client", s.bearer(v.assertion("sub", "repo:shop:feature")), codeInvalidGrant},
		{"RFC 7523 §3 no. 2 a client that is gone", s.bearer(v.assertion("sub", "repo:shop:old")), codeInvalidGrant},
		{"RFC 7523 §3 no. 2 a client that is disabled", s.bearer(v.assertion("sub", "repo:shop:off")), codeInvalidGrant},
		{"RFC 7523 §3 no. 3 the token endpoint as audience", s.bearer(v.assertion("aud", s.url+pathToken)), codeInvalidGrant},
		{"RFC 7523 §3 no. 3 two audiences", s.bearer(v.assertion("aud", []string{s.url, "https://other.example"})), codeInvalidGrant},
		{"RFC 7523 §3 no. 4 good for too long", s.bearer(v.assertion("exp", s.clock.now().Add(time.Hour).Unix())), codeInvalidGrant},
		{"RFC 7523 §3 no. 7 used already", s.bearer(used), codeInvalidGrant},
		{"RFC 7523 §3 no. 9 another's signature", s.bearer(forged), codeInvalidGrant},
		{"RFC 7521 §4.1 client_id of another", s.bearer(v.assertion(), "client_id", "machine"), codeInvalidGrant},
		{"RFC 6749 §2.3 a secret beside it", s.bearer(v.assertion(), "client_id", "deployer", "client_secret", webSecret), codeInvalidRequest},
		{"RFC 6749 §2.3 Basic beside it", s.tokenAs("deployer", url.Values{"grant_type": {grantJWTBearer}, "assertion": {v.assertion()}}), codeInvalidRequest},
		{"RFC 6749 §5.2 a client without the grant", s.bearer(v.assertion("sub", "repo:shop:web")), codeUnauthorizedClient},
		{"RFC 6749 §3.3 scope of another client", s.bearer(v.assertion(), "scope", "read:profile"), codeInvalidScope},
		{"RFC 6749 §3.3 scope of people", s.bearer(v.assertion(), "scope", "openid"), codeInvalidScope},
		{"RFC 6749 §5.2 the client's secret for another grant", s.tokenAs("deployer", url.Values{"grant_type": {grantClientCredentials}}), codeUnauthorizedClient},
	} {
		if row.answer.StatusCode != 400 || row.answer.json(t)["error"] != row.code {
			t.Errorf("%s: %d %s, want %s", row.clause, row.answer.StatusCode, strings.TrimSpace(row.answer.body), row.code)
		}
	}
	if a := s.bearer(v.assertion()); a.StatusCode != http.StatusOK {
		t.Errorf("a sound one: %s", a.body)
	}
	plain := newSite(t)
	plain.oauthError(plain.bearer(v.assertion()), 400, codeUnsupportedGrantType)
	plain.addClient(store.Client{ID: "deployer", GrantTypes: []string{grantJWTBearer}, Scopes: []string{"read:orders"}})
	plain.oauthError(plain.tokenAs("deployer", url.Values{"grant_type": {grantJWTBearer}}), 400, codeUnsupportedGrantType)
}

// An assertion is good once, however many bring it at once.
func TestParallelAssertions(t *testing.T) {
	s, v := vouchedSite(t)
	assertion := v.assertion()
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if s.bearer(assertion).StatusCode == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 32 used one assertion", won)
	}
}

// Keys may be fetched, from addresses that are allowed; without keys nothing is
// taken.
func TestVouchersKeysAreFetched(t *testing.T) {
	key := tokentest.NewKey("ES256")
	ci := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(tokentest.JWKS(key)) }))
	defer ci.Close()
	s := newSite(t, func(c *Config) {
		c.AssertionIssuers = []AssertionIssuer{{Issuer: buildServer, JWKSURL: ci.URL, AllowInternal: true, Subjects: map[string]string{"repo:shop:main": "deployer"}}}
	})
	s.addClient(store.Client{ID: "deployer", GrantTypes: []string{grantJWTBearer}, Scopes: []string{"read:orders"}})
	v := &voucherOf{s: s, key: key}
	s.oauthError(s.bearer(v.assertion()), 400, codeInvalidGrant)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.server.vouchers.Run(ctx) }()
	deadline := time.After(10 * time.Second)
	for s.server.vouchers[buildServer].keys() == nil {
		select {
		case <-deadline:
			t.Fatal("the keys are not fetched")
		case <-time.After(time.Millisecond):
		}
	}
	if a := s.bearer(v.assertion()); a.StatusCode != http.StatusOK {
		t.Errorf("with keys: %s", a.body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
