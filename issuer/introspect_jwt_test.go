package issuer

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/token"
)

// The answer comes as a JWT for the one who asked (RFC 9701 §5), signed, and is
// good for nothing else.
func TestIntrospectionAsJWT(t *testing.T) {
	s := newSite(t)
	access := s.tokens()["access_token"].(string)
	ask := func(client, accept, presented string) answer {
		return s.request("POST", pathIntrospect, url.Values{"token": {presented}}.Encode(), basic(client, webSecret), header("Accept", accept))
	}
	for client, active := range map[string]bool{"orders": true, "web": true, "machine": false} {
		a := ask(client, typeIntrospection, access)
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != typeIntrospection || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v", a.StatusCode, a.Header)
		}
		head, claims := decodeJWS(t, a.body)
		if head["typ"] != "token-introspection+jwt" || head["alg"] != keys.ES256 {
			t.Errorf("header %v", head)
		}
		described := claims["token_introspection"].(map[string]any)
		delete(claims, "token_introspection")
		if diff := cmp.Diff(map[string]any{"iss": s.url, "aud": client, "iat": float64(s.clock.now().Unix())}, claims); diff != "" {
			t.Error(diff)
		}
		if described["active"] != active || active != (described["sub"] == "usr_alice") || !active && len(described) != 1 {
			t.Errorf("%s learns %v", client, described)
		}
		plain := ask(client, "application/json", access)
		if diff := cmp.Diff(plain.json(t), described); diff != "" {
			t.Errorf("%s is told otherwise in JSON: %s", client, diff)
		}
		if _, err := s.server.tokens.Verify(t.Context(), a.body); token.ReasonOf(err) != token.ReasonType {
			t.Errorf("as an access token: %v", err)
		}
		s.oauthError(s.tokenAs("web", url.Values{"grant_type": {grantRefreshToken}, "refresh_token": {a.body}}), 400, codeInvalidGrant)
	}
	for accept, asJWT := range map[string]bool{
		"": false, "*/*": false, "application/*": false, "application/jwt": false, typeIntrospection + ";q=0": false,
		"application/json, " + typeIntrospection: true, typeIntrospection + ";q=0.5": true, "APPLICATION/Token-Introspection+JWT": true, typeIntrospection + ";q=x": false,
	} {
		if a := ask("orders", accept, access); (a.Header.Get("Content-Type") == typeIntrospection) != asJWT {
			t.Errorf("Accept %q is answered with %s", accept, a.Header.Get("Content-Type"))
		}
	}
	s.oauthError(s.request("POST", pathIntrospect, url.Values{"token": {access}}.Encode(), basic("orders", "wrong"), header("Accept", typeIntrospection)), 401, codeInvalidClient)
	if got := s.request("GET", pathDiscovery, "").json(t)["introspection_signing_alg_values_supported"]; !cmp.Equal(got, []any{keys.ES256}) {
		t.Errorf("advertised is %v", got)
	}
}

// Each resource server is registered for the algorithm that it reads, among
// those that there are keys for (RFC 9701 §6).
func TestIntrospectionAlgorithmIsTheClients(t *testing.T) {
	s := newSite(t, registering, func(c *Config) { c.Keys.Algorithms = []string{keys.PS256} })
	published, err := jwk.Parse(s.server.keys.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	robot := robotWith("introspection_signed_response_alg", keys.PS256)
	m := s.jsonRequest("POST", pathRegister, s.initialToken(1), robot).json(t)
	if m["introspection_signed_response_alg"] != keys.PS256 {
		t.Fatalf("registered as %v", m)
	}
	id, _ := m["client_id"].(string)
	secret, _ := m["client_secret"].(string)
	for client, want := range map[string]string{id: keys.PS256, "orders": keys.ES256} {
		with := map[string]string{id: secret, "orders": webSecret}[client]
		a := s.request("POST", pathIntrospect, "token=x", basic(client, with), header("Accept", typeIntrospection))
		head, _ := decodeJWS(t, a.body)
		if head["alg"] != want {
			t.Errorf("%s gets %v, want %s", client, head, want)
		}
		if _, err := jws.Verify([]byte(a.body), jws.WithKeySet(published)); err != nil {
			t.Errorf("the answer to %s does not verify: %v", client, err)
		}
	}
	s.oauthError(s.jsonRequest("POST", pathRegister, s.initialToken(1), robotWith("introspection_signed_response_alg", keys.RS256)), 400, codeInvalidMetadata)
	s.oauthError(s.jsonRequest("POST", pathRegister, s.initialToken(1), robotWith("introspection_signed_response_alg", "none")), 400, codeInvalidMetadata)
}
