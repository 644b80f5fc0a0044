package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token"
)

// tuned gives the two APIs settings of their own.
func tuned(orders, profile func(*API)) func(*Config) {
	return func(c *Config) { orders(&c.APIs[0]); profile(&c.APIs[1]) }
}

func algorithmOf(algorithm string) func(*API) { return func(a *API) { a.Algorithm = algorithm } }

func untouched(*API) {}

// An API chooses what its tokens are signed with; the gateway's verifier, told
// of that algorithm alone, takes them, and of another it does not.
func TestAPIsChooseTheirAlgorithm(t *testing.T) {
	for _, algorithm := range keys.Algorithms() {
		s := newSite(t, tuned(algorithmOf(algorithm), untouched))
		got := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)
		if head, _ := decodeJWS(t, got["access_token"]); head["alg"] != algorithm || head["typ"] != "at+jwt" {
			t.Errorf("%s: the header is %v", algorithm, head)
		}
		s.claims(got["access_token"])
		for _, accepted := range keys.Algorithms() {
			_, err := s.gateway(accepted).Verify(t.Context(), parsed(t, got["access_token"]))
			if (err == nil) != (accepted == algorithm) {
				t.Errorf("%s, where a gateway takes %s: %v", algorithm, accepted, err)
			}
		}
		for _, path := range []string{pathDiscovery} {
			advertised, _ := s.request("GET", path, "").json(t)["id_token_signing_alg_values_supported"].([]any)
			if !slices.Contains(advertised, any(algorithm)) || !slices.Contains(advertised, any(keys.ES256)) {
				t.Errorf("%s: advertised are %v", algorithm, advertised)
			}
		}
	}
}

// gateway is a verifier that takes one algorithm, with the published keys.
func (s *site) gateway(algorithm string) *token.Verifier {
	s.Helper()
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: s.url, Algorithms: []token.Algorithm{token.Algorithm(algorithm)}, MaxLifetime: 10 * time.Minute, Now: s.clock.now,
		Keys: func() *token.KeySet {
			set, err := token.ParseKeySet(s.server.keys.JWKS(), []token.Algorithm{token.Algorithm(algorithm)})
			if err != nil {
				return nil
			}
			return set
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	return verifier
}

func parsed(t *testing.T, access any) *token.Unverified {
	t.Helper()
	compact, _ := access.(string)
	u, err := token.Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A token for APIs that take different algorithms is one that some of them
// cannot verify: the client has to ask for one at a time, and refreshing in the
// wrong way uses nothing up.
func TestAPIsOfDifferentAlgorithmsShareNoToken(t *testing.T) {
	s := newSite(t, tuned(untouched, algorithmOf(keys.EdDSA)))
	both := []string{"scope", "openid offline_access read:orders read:profile"}
	s.oauthError(s.tokenAs("web", redemption(s.code(both...))), 400, codeInvalidTarget)
	got := s.tokenAs("web", redemption(s.code(both...), "resource", profileAPI)).json(t)
	if head, _ := decodeJWS(t, got["access_token"]); head["alg"] != keys.EdDSA {
		t.Errorf("the header is %v", head)
	}
	s.oauthError(s.refreshWith(got["refresh_token"]), 400, codeInvalidTarget)
	again := s.refreshWith(got["refresh_token"], "resource", ordersAPI).json(t)
	if head, _ := decodeJWS(t, again["access_token"]); head["alg"] != keys.ES256 {
		t.Errorf("the header is %v", head)
	}
	s.oauthError(s.tokenAs("every", url.Values{"grant_type": {grantClientCredentials}}), 400, codeInvalidTarget)
}

// The shortest of the lifetimes counts: the client's, each API's, the issuer's.
func TestLifetimes(t *testing.T) {
	s := newSite(t, tuned(func(a *API) { a.AccessTokenLifetime = 5 * time.Minute }, func(a *API) { a.AccessTokenLifetime = 7 * time.Minute }))
	for name, row := range map[string]struct {
		client string
		scope  string
		want   float64
	}{
		"API's":           {"machine", "read:orders", 300},
		"another API's":   {"every", "read:profile", 420},
		"both APIs":       {"every", "read:profile read:orders", 300},
		"the client's":    {"hasty", "read:profile read:orders", 60},
		"a longer client": {"lazy", "read:orders", 300},
	} {
		got := s.tokenAs(row.client, url.Values{"grant_type": {grantClientCredentials}, "scope": {row.scope}}).json(t)
		claims := s.claims(got["access_token"])
		if life := claims.ExpiresAt().Sub(claims.IssuedAt()).Seconds(); got["expires_in"] != row.want || life != row.want {
			t.Errorf("%s: %v and %v seconds, want %v", name, got["expires_in"], life, row.want)
		}
	}
}

// An API is told what it asks for, and nothing that another one asks for.
func TestMappedClaims(t *testing.T) {
	s := newSite(t, tuned(
		func(a *API) {
			a.Claims = map[string]string{"email": "email", "who": "name", "https://x.example/app": "client_name", "shared": "login"}
		},
		func(a *API) { a.Claims = map[string]string{"shared": "login", "who": "login", "my_roles": "roles"} },
	))
	standard := []string{"iss", "sub", "aud", "client_id", "scope", "roles", "jti", "iat", "exp", "sid", "grant_id", "auth_time"}
	told := func(access any) map[string]any {
		_, claims := decodeJWS(t, access)
		for _, name := range standard {
			delete(claims, name)
		}
		return claims
	}
	for name, row := range map[string]struct {
		scope string
		want  map[string]any
	}{
		"one API":       {"openid read:orders", map[string]any{"email": "alice@example.com", "who": "Alice Example", "https://x.example/app": "The Shop", "shared": "alice"}},
		"the other":     {"read:profile", map[string]any{"shared": "alice", "who": "alice", "my_roles": []any{"customer"}}},
		"both":          {"read:orders read:profile", map[string]any{"shared": "alice"}},
		"userinfo only": {"openid", map[string]any{}},
	} {
		if diff := cmp.Diff(row.want, told(s.tokens("scope", row.scope)["access_token"])); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	got := s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)
	if diff := cmp.Diff(map[string]any{}, told(got["access_token"])); diff != "" {
		t.Errorf("a client without a name: %s", diff)
	}
}

// What the site knows of people and clients goes into the claims that an API asks
// for, a plan among them, and into no other; a change shows at the next token.
func TestAttributesAreMapped(t *testing.T) {
	s := newSite(t, tuned(func(a *API) {
		a.Claims = map[string]string{"plan": "attribute.plan", "of_user": "user.plan", "of_client": "client.plan", "nothing": "user.shoe_size"}
	}, untouched))
	told := func(access any) map[string]any {
		_, claims := decodeJWS(t, access)
		got := map[string]any{}
		for _, name := range []string{"plan", "of_user", "of_client", "nothing", "secret"} {
			if value, there := claims[name]; there {
				got[name] = value
			}
		}
		return got
	}
	set := func(user, client map[string]string) {
		t.Helper()
		_, err := s.server.admin.UpdateUser(t.Context(), &adminv1.UpdateUserRequest{Login: "alice", User: &adminv1.User{Attributes: user}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"attributes"}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"web", "machine"} {
			if _, err := s.server.admin.UpdateClient(t.Context(), &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: id, Attributes: client}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"attributes"}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	plans := func(plan string) map[string]string { return map[string]string{"plan": plan, "secret": "x"} }
	for name, row := range map[string]struct {
		user, client map[string]string
		person, own  map[string]any
	}{
		"both":    {plans("gold"), plans("pro"), map[string]any{"plan": "gold", "of_user": "gold", "of_client": "pro"}, map[string]any{"plan": "pro", "of_client": "pro"}},
		"user":    {plans("gold"), nil, map[string]any{"plan": "gold", "of_user": "gold"}, map[string]any{}},
		"client":  {nil, plans("pro"), map[string]any{"plan": "pro", "of_client": "pro"}, map[string]any{"plan": "pro", "of_client": "pro"}},
		"neither": {nil, nil, map[string]any{}, map[string]any{}},
	} {
		set(row.user, row.client)
		if diff := cmp.Diff(row.person, told(s.tokens("scope", "read:orders")["access_token"])); diff != "" {
			t.Errorf("%s, a person's token: %s", name, diff)
		}
		if diff := cmp.Diff(row.own, told(s.tokenAs("machine", url.Values{"grant_type": {grantClientCredentials}}).json(t)["access_token"])); diff != "" {
			t.Errorf("%s, a client's own: %s", name, diff)
		}
	}
}

// A client chooses what its ID tokens are signed with; at_hash follows, and
// the token comes back as a hint.
func TestIDTokenAlgorithms(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Keys.Algorithms = keys.Algorithms() })
	for _, algorithm := range keys.Algorithms() {
		id := "id-" + algorithm
		if err := s.server.store.CreateClient(t.Context(), store.Client{
			ID: id, Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantAuthorizationCode},
			RedirectURIs: []string{webCB}, IDTokenAlgorithm: algorithm,
		}); err != nil {
			t.Fatal(err)
		}
		a := s.tokenAs(id, redemption(s.code("client_id", id, "scope", "openid")))
		if a.StatusCode != http.StatusOK {
			t.Fatal(a.body)
		}
		got := a.json(t)
		head, claims := decodeJWS(t, got["id_token"])
		if head["alg"] != algorithm || claims["at_hash"] != accessHash(got["access_token"].(string), algorithm) {
			t.Errorf("%s: header %v, at_hash %v", algorithm, head, claims["at_hash"])
		}
		if hash, _ := claims["at_hash"].(string); (len(hash) == 43) != (algorithm == keys.EdDSA) { // half of 64 bytes, of 32
			t.Errorf("%s: at_hash %s", algorithm, hash)
		}
		if subject, err := s.server.hinted(got["id_token"].(string), id); err != nil || subject != "usr_alice" {
			t.Errorf("%s: as a hint: %q, %v", algorithm, subject, err)
		}
	}
}
