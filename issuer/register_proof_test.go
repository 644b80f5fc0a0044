package issuer

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// robotWith is the metadata of a robot with some members more.
func robotWith(pairs ...any) map[string]any {
	m := robotMetadata()
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// provenByTLS lets an issuer take certificates.
func provenByTLS(t *testing.T, root *party) func(*Config) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.MTLSURL, c.ClientAuthorities = "https://mtls.example", conf.Path(file) }
}

// A client registers a key, proves itself by it, and by another once it has
// replaced it; there is no secret to tell.
func TestRegisteredKey(t *testing.T) {
	s := newSite(t, registering)
	first, second := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	body := robotWith("token_endpoint_auth_method", methodPrivateKeyJWT, "jwks", json.RawMessage(tokentest.JWKS(first)), "token_endpoint_auth_signing_alg", "ES256")
	made := s.jsonRequest("POST", pathRegister, s.initialToken(1), body)
	m := made.json(t)
	if made.StatusCode != 201 || m["client_secret"] != nil || m["client_secret_expires_at"] != nil || m["token_endpoint_auth_method"] != methodPrivateKeyJWT || m["token_endpoint_auth_signing_alg"] != "ES256" || m["jwks"] == nil {
		t.Fatalf("registered: %d %s", made.StatusCode, made.body)
	}
	id, path := m["client_id"].(string), pathRegister+"?"+url.Values{"client_id": {m["client_id"].(string)}}.Encode()
	by := func(key *tokentest.Key) int {
		return s.asserted(s.assertion(key, tokentest.ClientAssertion(id, s.url, s.clock.now()))).StatusCode
	}
	if by(first) != 200 || by(second) != 401 {
		t.Error("it is not proven by its key alone")
	}
	body["client_id"], body["jwks"] = id, json.RawMessage(tokentest.JWKS(second))
	if a := s.jsonRequest("PUT", path, m["registration_access_token"].(string), body); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	if by(first) != 401 || by(second) != 200 {
		t.Error("its key was not replaced")
	}
}

// Names of certificates, certificates and what tokens are bound to are kept as
// they were registered, and told so.
func TestRegisteredCertificates(t *testing.T) {
	root, robot := newParty(t, nil, authority), newParty(t, nil, same)
	s := newSite(t, registering, provenByTLS(t, root))
	x5c := map[string]any{"keys": []any{map[string]any{"kty": "EC", "x5c": []string{base64.StdEncoding.EncodeToString(robot.certificate.Raw)}}}}
	for name, members := range map[string]map[string]any{
		"by a name":        {"token_endpoint_auth_method": methodTLS, "tls_client_auth_subject_dn": "CN=robot,O=Example"},
		"by another":       {"token_endpoint_auth_method": methodTLS, "tls_client_auth_san_dns": "robot.example"},
		"by a certificate": {"token_endpoint_auth_method": methodSelfSigned, "jwks": x5c},
		"bound":            {"dpop_bound_access_tokens": true, "tls_client_certificate_bound_access_tokens": true, "require_pushed_authorization_requests": true},
	} {
		body := robotMetadata()
		maps.Copy(body, members)
		made := s.jsonRequest("POST", pathRegister, s.initialToken(1), body)
		told := made.json(t)
		for member, want := range members {
			wanted, _ := json.Marshal(want)
			got, _ := json.Marshal(told[member])
			if made.StatusCode != 201 || string(got) != string(wanted) {
				t.Errorf("%s: %s is told as %s, want %s (%d)", name, member, got, wanted, made.StatusCode)
			}
		}
		if name == "by a certificate" {
			a := s.request("POST", pathToken, url.Values{"grant_type": {grantClientCredentials}, "client_id": {told["client_id"].(string)}}.Encode(), shown(robot))
			if a.StatusCode != 200 {
				t.Errorf("%s: %s", name, a.body)
			}
		}
	}
}

// What is wrong with a proof, and what strict JSON does not have, registers
// nothing.
func TestProofRegistrationRefuses(t *testing.T) {
	s := newSite(t, registering)
	initial, key := s.initialToken(1), tokentest.NewKey("ES256")
	jwks := json.RawMessage(tokentest.JWKS(key))
	private := json.RawMessage(strings.Replace(string(jwks), `"kty"`, `"d":"AQ","kty"`, 1))
	by := func(pairs ...any) map[string]any {
		return robotWith(append([]any{"token_endpoint_auth_method", methodPrivateKeyJWT}, pairs...)...)
	}
	for name, body := range map[string]any{
		"no keys":                      by(),
		"null for keys":                by("jwks", nil),
		"keys twice":                   by("jwks", jwks, "jwks_uri", "https://app.example/jwks"),
		"a private key":                by("jwks", private),
		"a symmetric key":              by("jwks", json.RawMessage(`{"keys":[{"kty":"oct","kid":"1","k":"AAAA"}]}`)),
		"keys of another algorithm":    by("jwks", jwks, "token_endpoint_auth_signing_alg", "RS256"),
		"an algorithm that is none":    by("jwks", jwks, "token_endpoint_auth_signing_alg", "none"),
		"keys on a foreign host":       by("jwks_uri", "https://evil.example/jwks"),
		"keys behind a user's name":    by("jwks_uri", "https://u:p@app.example/jwks"),
		"keys in clear":                by("jwks_uri", "http://app.example/jwks"),
		"keys beside a secret":         robotWith("jwks", jwks),
		"an address beside a secret":   robotWith("jwks_uri", "https://app.example/jwks"),
		"an algorithm beside a secret": robotWith("token_endpoint_auth_signing_alg", "ES256"),
		"a name beside a secret":       robotWith("tls_client_auth_san_dns", "robot.example"),
		"certificates, but no TLS":     robotWith("token_endpoint_auth_method", methodTLS, "tls_client_auth_san_dns", "robot.example"),
		"self-signed, but no TLS":      robotWith("token_endpoint_auth_method", methodSelfSigned, "jwks", jwks),
		"bound, but no TLS":            robotWith("tls_client_certificate_bound_access_tokens", true),
		"a member twice":               `{"grant_types":["client_credentials"],"scope":"read:orders","scope":"read:orders"}`,
		"a member twice, escaped":      `{"grant_types":["client_credentials"],"scope":"read:orders","s\u0063ope":"read:orders"}`,
		"a member of a key twice":      `{"grant_types":["client_credentials"],"contacts":[{"a":1,"a":2}]}`,
		"too deep":                     `{"grant_types":["client_credentials"],"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		"something behind":             `{"grant_types":["client_credentials"]} {}`,
	} {
		if a := s.jsonRequest("POST", pathRegister, initial, body); a.StatusCode != 400 || a.json(t)["error"] != codeInvalidMetadata {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	// The one use is still there. Names are case-sensitive: SCOPE is nothing.
	a := s.jsonRequest("POST", pathRegister, initial, `{"grant_types":["client_credentials"],"scope":"read:orders","SCOPE":"root","Client_Secret":"x"}`)
	if a.StatusCode != 201 || a.json(t)["scope"] != "read:orders" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// RFC 7592 §2.2: what an update omits is deleted, but for what an administrator
// has set, what makes the client safer, and the secret; how the client proves
// itself stays.
func TestReregistrationReplaces(t *testing.T) {
	s := newSite(t, registering)
	full := map[string]any{
		"client_name": "Full", "grant_types": []string{grantAuthorizationCode}, "scope": "read:orders write:orders",
		"redirect_uris": []string{"https://app.example/cb"}, "post_logout_redirect_uris": []string{"https://app.example/bye"},
		"backchannel_logout_uri": "https://app.example/out", "id_token_signed_response_alg": "ES256",
		"require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
	}
	made := s.jsonRequest("POST", pathRegister, s.initialToken(1), full)
	m := made.json(t)
	for member, want := range full {
		wanted, _ := json.Marshal(want)
		if got, _ := json.Marshal(m[member]); string(got) != string(wanted) {
			t.Errorf("%s is told as %s, want %s", member, got, wanted)
		}
	}
	id, management := m["client_id"].(string), m["registration_access_token"].(string)
	if _, err := s.server.store.UpdateClient(t.Context(), id, func(c *store.Client) error { c.AccessTokenLifetime = time.Minute; return nil }); err != nil {
		t.Fatal(err)
	}
	path := pathRegister + "?" + url.Values{"client_id": {id}}.Encode()
	least := map[string]any{"client_id": id, "redirect_uris": []string{"https://app.example/cb2"}, "scope": nil}
	change := s.jsonRequest("PUT", path, management, least)
	if change.StatusCode != 200 {
		t.Fatal(change.body)
	}
	left := change.json(t)
	for _, member := range []string{"post_logout_redirect_uris", "backchannel_logout_uri", "id_token_signed_response_alg", "client_secret"} {
		if left[member] != nil {
			t.Errorf("%s stayed: %v", member, left[member])
		}
	}
	for _, member := range []string{"require_pushed_authorization_requests", "dpop_bound_access_tokens"} {
		if left[member] != true {
			t.Errorf("%s is gone: %v", member, left[member])
		}
	}
	c, err := s.server.store.Client(t.Context(), id)
	if err != nil || !slices.Equal(c.RedirectURIs, []string{"https://app.example/cb2"}) || c.Name != id || c.AccessTokenLifetime != time.Minute || !c.Secret.Matches(m["client_secret"].(string)) {
		t.Errorf("left: %+v, %v", c, err)
	}
	management = left["registration_access_token"].(string)
	if a := s.jsonRequest("PUT", path, management, map[string]any{
		"client_id": id, "redirect_uris": []string{"https://app.example/cb2"}, "token_endpoint_auth_method": methodPrivateKeyJWT, "jwks": json.RawMessage(tokentest.JWKS(tokentest.NewKey("ES256"))),
	}); a.StatusCode != 400 {
		t.Errorf("another way to authenticate: %d %s", a.StatusCode, a.body)
	}
}

// Private-use schemes are for native clients, where the policy names them.
func TestRegisteredSchemes(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Registration = Registration{Access: registerOpen, GrantTypes: []string{grantAuthorizationCode}, Scopes: []string{"openid"}, RedirectSchemes: []string{"com.example.app"}}
	})
	register := func(uri, method, application string) answer {
		return s.jsonRequest("POST", pathRegister, "", map[string]any{"redirect_uris": []string{uri}, "token_endpoint_auth_method": method, "application_type": application})
	}
	if a := register("com.example.app:/cb", methodNone, "native"); a.StatusCode != 201 {
		t.Errorf("as the policy has it: %s", a.body)
	}
	for name, a := range map[string]answer{
		"another scheme":   register("com.example.other:/cb", methodNone, "native"),
		"a longer scheme":  register("com.example.app.evil:/cb", methodNone, "native"),
		"a web client":     register("com.example.app:/cb", methodBasic, "web"),
		"with a host":      register("com.example.app://evil.example/cb", methodNone, "native"),
		"in capitals":      register("COM.EXAMPLE.APP:/cb", methodNone, "native"),
		"a host, unnamed":  register("https://app.example/cb", methodNone, "native"),
		"a script's":       register("javascript:alert(1)", methodNone, "native"),
		"without anything": register("com.example.app:", methodNone, "native"),
	} {
		if a.StatusCode != 400 || a.json(t)["error"] != codeInvalidRedirectURI {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	for scheme, fine := range map[string]bool{"com.example.app": true, "myapp": false, "": false, "HTTPS.x": false, ".app": false, "1.app": false, "a.b:c": false} {
		r := Registration{Access: registerOpen, GrantTypes: []string{grantAuthorizationCode}, RedirectSchemes: []string{scheme}}
		if vs := r.validate(nil); (len(vs) == 0) != fine {
			t.Errorf("scheme %q: %v", scheme, vs)
		}
	}
}
