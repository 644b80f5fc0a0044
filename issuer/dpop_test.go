package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// proof is a good DPoP proof for an endpoint; members change its claims.
func (s *site) proof(key *tokentest.Key, method, path, access string, members ...any) func(*http.Request) {
	claims := tokentest.ProofClaims(method, s.url+path, access, s.clock.now())
	claims["nonce"] = s.server.proofs.nonces.Current(s.clock.now())
	for i := 0; i < len(members); i += 2 {
		claims = tokentest.With(claims, map[string]any{members[i].(string): members[i+1]})
	}
	return header("Dpop", key.Sign(key.ProofHeader(), claims))
}

// tokenWith asks the token endpoint, a request changed in several ways.
func (s *site) tokenWith(body url.Values, change ...func(*http.Request)) answer {
	s.Helper()
	return s.request("POST", pathToken, body.Encode(), change...)
}

var machineGrant = url.Values{"grant_type": {grantClientCredentials}}

func TestTokensAreBoundToTheProvenKey(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	a := s.tokenWith(machineGrant, basic("machine", webSecret), s.proof(key, "POST", pathToken, ""))
	got := a.json(t)
	if a.StatusCode != 200 || got["token_type"] != "DPoP" || a.Header.Get("DPoP-Nonce") == "" {
		t.Fatalf("%d %v, nonce %q", a.StatusCode, got, a.Header.Get("DPoP-Nonce"))
	}
	if c := s.claims(got["access_token"]).Confirmation(); c != (token.Confirmation{KeyThumbprint: key.Thumbprint()}) {
		t.Errorf("confirmation %+v", c)
	}
	plain := s.tokenWith(machineGrant, basic("machine", webSecret)).json(t)
	if plain["token_type"] != "Bearer" || !s.claims(plain["access_token"]).Confirmation().IsZero() {
		t.Errorf("without a proof: %v", plain)
	}
	introspected := s.request("POST", pathIntrospect, url.Values{"token": {got["access_token"].(string)}}.Encode(), basic("machine", webSecret)).json(t)
	cnf, _ := introspected["cnf"].(map[string]any)
	if introspected["active"] != true || introspected["token_type"] != "DPoP" || cnf["jkt"] != key.Thumbprint() {
		t.Errorf("introspection (RFC 9449 §6.2): %v", introspected)
	}
}

// One row, one clause, at the token endpoint; what is wrong inside of a proof is
// tested where it is checked (package token).
func TestProofAttacks(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	rsa := tokentest.NewKey("PS256")
	used := s.proof(key, "POST", pathToken, "")
	if a := s.tokenWith(machineGrant, basic("machine", webSecret), used); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	good := s.proof(key, "POST", pathToken, "")
	two := func(r *http.Request) { good(r); r.Header["Dpop"] = append(r.Header["Dpop"], r.Header["Dpop"][0]) }
	for _, row := range []struct {
		clause string
		change func(*http.Request)
		code   string
	}{
		{"RFC 9449 §4.3 no. 1 two headers", two, codeInvalidProof},
		{"RFC 9449 §4.3 no. 2 no JWT", header("Dpop", "x"), codeInvalidProof},
		{"RFC 9449 §4.3 no. 2 empty", header("Dpop", ""), codeInvalidProof},
		{"RFC 9449 §4.3 no. 5 an algorithm that is not offered", s.proof(rsa, "POST", pathToken, ""), codeInvalidProof},
		{"RFC 9449 §4.3 no. 8 another method", s.proof(key, "GET", pathToken, ""), codeInvalidProof},
		{"RFC 9449 §4.3 no. 9 another endpoint", s.proof(key, "POST", pathUserinfo, ""), codeInvalidProof},
		{"RFC 9449 §4.3 no. 9 another server", s.proof(key, "POST", pathToken, "", "htu", "https://other.example"+pathToken), codeInvalidProof},
		{"RFC 9449 §4.3 no. 10 no nonce", s.proof(key, "POST", pathToken, "", "nonce", nil), codeUseNonce},
		{"RFC 9449 §4.3 no. 10 a nonce of its own", s.proof(key, "POST", pathToken, "", "nonce", "mine"), codeUseNonce},
		{"RFC 9449 §4.3 no. 10 a nonce of long ago", s.proof(key, "POST", pathToken, "", "nonce", s.server.proofs.nonces.Current(s.clock.now().Add(-2*nonceSpan))), codeUseNonce},
		{"RFC 9449 §4.3 no. 11 too old", s.proof(key, "POST", pathToken, "", "iat", s.clock.now().Add(-proofMaxAge-time.Second).Unix()), codeInvalidProof},
		{"RFC 9449 §4.3 no. 11 from the future", s.proof(key, "POST", pathToken, "", "iat", s.clock.now().Add(skew+time.Second).Unix()), codeInvalidProof},
		{"RFC 9449 §11.1 used before", used, codeInvalidProof},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.tokenWith(machineGrant, basic("machine", webSecret), row.change)
			s.oauthError(a, 400, row.code)
			if !s.server.proofs.nonces.Good(a.Header.Get("DPoP-Nonce"), s.clock.now()) {
				t.Errorf("the nonce to go on with is %q", a.Header.Get("DPoP-Nonce"))
			}
		})
	}
	t.Run("RFC 9449 §8 the nonce that is given out does", func(t *testing.T) {
		nonce := s.tokenWith(machineGrant, basic("machine", webSecret), header("Dpop", "x")).Header.Get("DPoP-Nonce")
		if a := s.tokenWith(machineGrant, basic("machine", webSecret), s.proof(key, "POST", pathToken, "", "nonce", nonce)); a.StatusCode != 200 {
			t.Error(a.body)
		}
	})
}

// A client that is registered so gets no token that is not bound.
func TestClientsThatMustProve(t *testing.T) {
	s := newSite(t)
	secret := store.HashOf(webSecret)
	s.register(store.Client{ID: "prover", Type: store.Confidential, Secret: secret, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}, BindToKey: true})
	s.oauthError(s.tokenWith(machineGrant, basic("prover", webSecret)), 400, codeInvalidRequest)
	key := tokentest.NewKey("EdDSA")
	if a := s.tokenWith(machineGrant, basic("prover", webSecret), s.proof(key, "POST", pathToken, "")); a.StatusCode != 200 {
		t.Error(a.body)
	}
}

// spaCode is a code for the public client, which may name the key that redeems
// it.
func (s *site) spaCode(pairs ...string) url.Values {
	s.Helper()
	ask := authorization(append([]string{"client_id", "spa", "redirect_uri", "https://spa.example/", "scope", "openid offline_access read:orders"}, pairs...)...)
	code := s.browser().allow("alice", ask).Query().Get("code")
	return redemption(code, "client_id", "spa", "redirect_uri", "https://spa.example/")
}

func TestCodesBoundToAKey(t *testing.T) {
	s := newSite(t)
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	for _, row := range []struct {
		clause string
		change func(*http.Request)
		status int
	}{
		{"RFC 9449 §10 no proof", func(*http.Request) {}, 400},
		{"RFC 9449 §10 another key", s.proof(other, "POST", pathToken, ""), 400},
		{"RFC 9449 §10 the key", s.proof(key, "POST", pathToken, ""), 200},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.tokenWith(s.spaCode("dpop_jkt", key.Thumbprint()), row.change)
			if a.StatusCode != row.status {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if row.status != 200 {
				s.oauthError(a, 400, codeInvalidGrant)
			}
		})
	}
}

// The refresh tokens of a public client are worth nothing without its key (RFC
// 9449 §5); a confidential one may change its key.
func TestRefreshTokensAreBound(t *testing.T) {
	s := newSite(t)
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	issued := s.tokenWith(s.spaCode(), s.proof(key, "POST", pathToken, "")).json(t)
	refresh, _ := issued["refresh_token"].(string)
	again := url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {refresh}, "client_id": {"spa"}}
	s.oauthError(s.tokenWith(again), 400, codeInvalidGrant)
	s.oauthError(s.tokenWith(again, s.proof(other, "POST", pathToken, "")), 400, codeInvalidGrant)
	a := s.tokenWith(again, s.proof(key, "POST", pathToken, ""))
	if a.StatusCode != 200 || s.claims(a.json(t)["access_token"]).Confirmation().KeyThumbprint != key.Thumbprint() {
		t.Errorf("with its key: %d %s", a.StatusCode, a.body)
	}
	web := s.tokenWith(redemption(s.code()), basic("web", webSecret), s.proof(key, "POST", pathToken, "")).json(t)
	rotated, _ := web["refresh_token"].(string)
	a = s.tokenWith(url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {rotated}}, basic("web", webSecret), s.proof(other, "POST", pathToken, ""))
	if a.StatusCode != 200 || s.claims(a.json(t)["access_token"]).Confirmation().KeyThumbprint != other.Thumbprint() {
		t.Errorf("a confidential client with a new key: %d %s", a.StatusCode, a.body)
	}
}

func TestUserinfoWithProof(t *testing.T) {
	s := newSite(t)
	key, other := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	bound, _ := s.tokenWith(redemption(s.code()), basic("web", webSecret), s.proof(key, "POST", pathToken, "")).json(t)["access_token"].(string)
	plain, _ := s.tokens()["access_token"].(string)
	as := func(scheme, access string) func(*http.Request) { return header("Authorization", scheme+" "+access) }
	none := func(*http.Request) {}
	for _, row := range []struct {
		clause    string
		authorize func(*http.Request)
		proof     func(*http.Request)
		status    int
		challenge string
	}{
		{"RFC 9449 §7.1 as it should be", as("DPoP", bound), s.proof(key, "GET", pathUserinfo, bound), 200, ""},
		{"RFC 9449 §7.1 the scheme in lower case", as("dpop", bound), s.proof(key, "GET", pathUserinfo, bound), 200, ""},
		{"RFC 9449 §7.2 a bound token as Bearer", as("Bearer", bound), none, 401, "Bearer"},
		{"RFC 9449 §7.2 a bound token as Bearer, with its proof", as("Bearer", bound), s.proof(key, "GET", pathUserinfo, bound), 401, "Bearer"},
		{"RFC 9449 §7.1 no proof", as("DPoP", bound), none, 401, "DPoP"},
		{"RFC 9449 §7.1 another key", as("DPoP", bound), s.proof(other, "GET", pathUserinfo, bound), 401, "Bearer"},
		{"RFC 9449 §4.3 no. 12 the proof of another token", as("DPoP", bound), s.proof(key, "GET", pathUserinfo, plain), 401, "DPoP"},
		{"RFC 9449 §4.3 no. 12 a proof without a token", as("DPoP", bound), s.proof(key, "GET", pathUserinfo, ""), 401, "DPoP"},
		{"RFC 9449 §9 no nonce", as("DPoP", bound), s.proof(key, "GET", pathUserinfo, bound, "nonce", nil), 401, "DPoP"},
		{"RFC 9449 §7.1 an unbound token as DPoP", as("DPoP", plain), s.proof(key, "GET", pathUserinfo, plain), 401, "Bearer"},
		{"an unbound token as Bearer", as("Bearer", plain), none, 200, ""},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.request("GET", pathUserinfo, "", row.authorize, row.proof)
			challenge := a.Header.Get("WWW-Authenticate")
			if a.StatusCode != row.status || !strings.HasPrefix(challenge, row.challenge) || (row.challenge == "") != (challenge == "") {
				t.Errorf("%d %q %s", a.StatusCode, challenge, a.body)
			}
			if row.challenge == "DPoP" && !strings.Contains(challenge, `algs="ES256 ES384 EdDSA"`) {
				t.Errorf("the challenge does not name the algorithms: %q", challenge)
			}
		})
	}
}

// Whoever makes keys and proofs without end cannot have other clients' requests
// refused for want of room to remember theirs.
func TestStrangersDoNotFillWhatRemembersProofs(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	nobody := url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {"none"}, "client_id": {"spa"}}
	refused, codes := 0, map[string]int{}
	for range proofsOfAddress + 20 {
		a := s.tokenWith(nobody, s.proof(key, "POST", pathToken, ""), from("192.0.2.1"))
		codes[a.json(t)["error"].(string)]++
		if refused += map[bool]int{true: 1}[a.StatusCode == 429]; a.StatusCode == 429 && a.Header.Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
	}
	if refused != 20 || codes[codeInvalidGrant] != proofsOfAddress {
		t.Errorf("from one address: %v", codes)
	}
	s.oauthError(s.tokenWith(nobody, s.proof(key, "POST", pathToken, ""), from("192.0.2.2")), 400, codeInvalidGrant)
	// Where there are many addresses, their room is full and that of others not.
	s.server.proofs.strangers = token.NewReplays(2)
	for range 2 {
		s.oauthError(s.tokenWith(nobody, s.proof(key, "POST", pathToken, ""), from("192.0.2.2")), 400, codeInvalidGrant)
	}
	s.oauthError(s.tokenWith(nobody, s.proof(key, "POST", pathToken, ""), from("192.0.2.2")), 503, codeTemporarilyUnavailable)
	if a := s.tokenWith(machineGrant, basic("machine", webSecret), s.proof(key, "POST", pathToken, ""), from("192.0.2.1")); a.StatusCode != 200 {
		t.Errorf("a client that proves itself: %d %s", a.StatusCode, a.body)
	}
	// At userinfo a proof without a token of its key takes no room.
	s.server.proofs.seen = token.NewReplays(2)
	access, _ := s.tokenWith(redemption(s.code()), basic("web", webSecret)).json(t)["access_token"].(string)
	for _, presented := range []string{"none", access} {
		for range 3 {
			a := s.request("GET", pathUserinfo, "", header("Authorization", "DPoP "+presented), s.proof(key, "GET", pathUserinfo, presented))
			if a.StatusCode != 401 {
				t.Errorf("userinfo: %d %s", a.StatusCode, a.body)
			}
		}
	}
	for range 2 {
		if a := s.tokenWith(machineGrant, basic("machine", webSecret), s.proof(key, "POST", pathToken, "")); a.StatusCode != 200 {
			t.Errorf("after userinfo: %d %s", a.StatusCode, a.body)
		}
	}
	s.oauthError(s.tokenWith(machineGrant, basic("machine", webSecret), s.proof(key, "POST", pathToken, "")), 503, codeTemporarilyUnavailable)
}
