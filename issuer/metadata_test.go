package issuer

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// The metadata says what works, all of it and nothing else. Each test here
// walks a part of the document, at an issuer with everything switched on and at
// one with nothing.

const mtlsURL = "https://mtls.example"

// everything switches on whatever can be.
func everything(t *testing.T, authority *party) func(*Config) {
	t.Helper()
	roots, jwks := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "jwks.json")
	for path, content := range map[string]string{roots: authority.pem(), jwks: string(tokentest.JWKS(tokentest.NewKey("ES256")))} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *Config) {
		exchangers(c)
		registering(c)
		c.MTLSURL, c.ClientAuthorities, c.Keys.Algorithms = mtlsURL, conf.Path(roots), keys.Algorithms()
		c.AssertionIssuers = []AssertionIssuer{{Issuer: buildServer, JWKSFile: conf.Path(jwks), Subjects: map[string]string{"x": "machine"}}}
	}
}

// described is a site with its metadata.
type described struct {
	*site
	document  map[string]any
	authority *party
}

func (d *described) list(name string) (all []string) {
	values, _ := d.document[name].([]any)
	for _, value := range values {
		all = append(all, value.(string))
	}
	return all
}

// advertises holds a list of the document against what was tried.
func (d *described) advertises(name string, works map[string]bool) {
	d.Helper()
	for _, value := range d.list(name) {
		if _, tried := works[value]; !tried {
			d.Errorf("%s: %s was not tried", name, value)
		}
	}
	for value, worked := range works {
		if advertised := slices.Contains(d.list(name), value); advertised != worked {
			d.Errorf("%s: %s is advertised %t and works %t", name, value, advertised, worked)
		}
	}
}

// bothSites runs a test at an issuer with everything on, and at a plain one.
func bothSites(t *testing.T, test func(*described)) {
	t.Helper()
	authority := newParty(t, nil, authority)
	for name, options := range map[string][]func(*Config){"everything": {everything(t, authority)}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, options...)
			test(&described{s, s.request("GET", pathDiscovery, "").json(t), authority})
		})
	}
}

// Every endpoint is there, and every path that is served is advertised, or is
// the person's, or is where the metadata stands.
func TestMetadataEndpoints(t *testing.T) {
	bothSites(t, func(d *described) {
		pages := slices.Collect(maps.Keys(d.server.login.Routes()))
		unnamed := append(slices.DeleteFunc(pages, func(path string) bool { return path == login.PathEndSession }), pathDiscovery, pathMetadata)
		served := d.server.routes()
		for name, value := range d.document {
			path, ours := strings.CutPrefix(asText(value), d.url)
			if name == "issuer" || !ours {
				continue
			}
			r, found := served[path]
			if !found || name != "jwks_uri" && !strings.HasSuffix(name, "_endpoint") {
				d.Errorf("%s: nothing is served at %s", name, path)
			}
			if a := d.request(r.methods[0], path, ""); a.StatusCode >= 404 {
				d.Errorf("%s %s: %d", r.methods[0], path, a.StatusCode)
			}
			delete(served, path)
		}
		for path := range served {
			if !slices.Contains(unnamed, path) {
				d.Errorf("%s is served and not advertised", path)
			}
		}
		if d.document["issuer"] != d.url {
			d.Errorf("issuer %v", d.document["issuer"])
		}
	})
}

func asText(value any) string {
	text, _ := value.(string)
	return text
}

// Where clients authenticate, or show tokens that may be bound, there is an
// alias for mutual TLS (RFC 8705 §5), and for nothing else.
func TestMetadataAliases(t *testing.T) {
	bothSites(t, func(d *described) {
		aliases, _ := d.document["mtls_endpoint_aliases"].(map[string]any)
		want := map[string]any{}
		if d.server.config.MTLSURL != "" {
			for _, name := range []string{"token", "revocation", "introspection", "userinfo", "pushed_authorization_request", "device_authorization"} {
				want[name+"_endpoint"] = mtlsURL + strings.TrimPrefix(asText(d.document[name+"_endpoint"]), d.url)
			}
		}
		if diff := cmp.Diff(want, aliases); diff != "" && len(want)+len(aliases) > 0 {
			d.Error(diff)
		}
		if bound := d.document["tls_client_certificate_bound_access_tokens"] == true; bound != (len(want) > 0) {
			d.Errorf("bound tokens are advertised: %t", bound)
		}
	})
}

// No list is empty, for those are left out (RFC 8414 §3.2), and there is no
// member that no test looks at.
func TestMetadataMembers(t *testing.T) {
	known := strings.Fields(`issuer jwks_uri subject_types_supported request_uri_parameter_supported require_pushed_authorization_requests
		authorization_response_iss_parameter_supported backchannel_logout_supported backchannel_logout_session_supported
		grant_types_supported response_types_supported response_modes_supported code_challenge_methods_supported scopes_supported claims_supported
		ui_locales_supported id_token_signing_alg_values_supported dpop_signing_alg_values_supported introspection_signing_alg_values_supported
		tls_client_certificate_bound_access_tokens mtls_endpoint_aliases`)
	for _, endpoint := range []string{"token", "revocation", "introspection"} {
		known = append(known, endpoint+"_endpoint_auth_methods_supported", endpoint+"_endpoint_auth_signing_alg_values_supported")
	}
	bothSites(t, func(d *described) {
		if media := d.request("GET", pathMetadata, "").Header.Get("Content-Type"); media != "application/json" {
			d.Errorf("it comes as %q", media)
		}
		for name, value := range d.document {
			if !slices.Contains(known, name) && !strings.HasSuffix(name, "_endpoint") {
				d.Errorf("%s is advertised, and nobody looks whether it is true", name)
			}
			if list, is := value.([]any); value == nil || is && len(list) == 0 {
				d.Errorf("%s has nothing in it", name)
			}
		}
	})
}

func TestMetadataGrantTypes(t *testing.T) {
	bothSites(t, func(d *described) {
		works := map[string]bool{}
		for _, grant := range []string{
			grantAuthorizationCode, grantRefreshToken, grantClientCredentials, grantDeviceCode, grantTokenExchange, grantJWTBearer,
			"password", "implicit", "urn:openid:params:grant-type:ciba", "urn:ietf:params:oauth:grant-type:saml2-bearer",
		} {
			a := d.tokenAs("machine", url.Values{"grant_type": {grant}})
			works[grant] = a.json(d)["error"] != codeUnsupportedGrantType
		}
		d.advertises("grant_types_supported", works)
	})
}

// What the authorization endpoint takes: one parameter, one list.
func TestMetadataOfAuthorization(t *testing.T) {
	bothSites(t, func(d *described) {
		b := d.browser()
		b.allow("alice", authorization("scope", "openid profile email offline_access read:orders write:orders read:profile"))
		for list, row := range map[string]struct {
			parameter string
			values    []string
		}{
			"response_types_supported":         {"response_type", []string{"code", "token", "id_token", "code id_token", "code token", "none"}},
			"response_modes_supported":         {"response_mode", []string{"query", "form_post", "fragment", "query.jwt", "jwt", "web_message"}},
			"code_challenge_methods_supported": {"code_challenge_method", []string{"S256", "plain"}},
			"scopes_supported":                 {"scope", []string{"openid", "profile", "email", "offline_access", "read:orders", "write:orders", "read:profile", "admin", "phone", "address"}},
		} {
			works := map[string]bool{}
			for _, value := range row.values {
				asked := value
				if row.parameter == "scope" && value != "openid" {
					asked = "openid " + value
				}
				a := b.get(pathAuthorize + "?" + authorization("scope", "openid", "prompt", "none", row.parameter, asked).Encode())
				works[value] = strings.Contains(a.Header.Get("Location"), "code=ghc_") || a.fields().Has("code")
			}
			d.advertises(list, works)
		}
	})
}

func TestMetadataAuthMethods(t *testing.T) {
	bothSites(t, func(d *described) {
		key, own := tokentest.NewKey("ES256"), newParty(d.T, nil, same)
		client := store.Client{Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}}
		for id, proof := range map[string]store.ClientProof{
			methodPrivateKeyJWT: {Method: methodPrivateKeyJWT, JWKS: tokentest.JWKS(key), Algorithms: []string{"ES256"}},
			methodTLS:           {Method: methodTLS, Name: store.CertificateName{SubjectDN: "CN=robot,O=Example"}},
			methodSelfSigned:    {Method: methodSelfSigned, Thumbprints: []string{token.CertificateThumbprint(own.certificate)}},
		} {
			client.ID, client.Proof = id, proof
			d.register(client)
		}
		signed := func(alg string) []string {
			claims := tokentest.ClientAssertion(methodPrivateKeyJWT, d.url, d.clock.now())
			return []string{"client_assertion_type", assertionType, "client_assertion", key.Sign(map[string]any{"alg": alg, "kid": key.ID(), "typ": "client-authentication+jwt"}, claims)}
		}
		nothing := func(*http.Request) {}
		for endpoint, path := range map[string]string{"token": pathToken, "revocation": pathRevoke, "introspection": pathIntrospect} {
			works := map[string]bool{}
			for method, present := range map[string]struct {
				pairs  []string
				change func(*http.Request)
			}{
				methodBasic:         {nil, basic("machine", webSecret)},
				methodPost:          {[]string{"client_id", "machine", "client_secret", webSecret}, nothing},
				methodPrivateKeyJWT: {signed("ES256"), nothing},
				"client_secret_jwt": {signed("HS256"), nothing},
				methodTLS:           {[]string{"client_id", methodTLS}, shown(newParty(d.T, d.authority, same))},
				methodSelfSigned:    {[]string{"client_id", methodSelfSigned}, shown(own)},
				methodNone:          {[]string{"client_id", "spa", "grant_type", grantRefreshToken, "refresh_token", "x"}, nothing},
			} {
				body := with(url.Values{"grant_type": {grantClientCredentials}, "token": {"x"}}, present.pairs...)
				works[method] = d.request("POST", path, body.Encode(), present.change).StatusCode != http.StatusUnauthorized
			}
			d.advertises(endpoint+"_endpoint_auth_methods_supported", works)
		}
	})
}

func TestMetadataAlgorithms(t *testing.T) {
	bothSites(t, func(d *described) {
		asserted, proven, chosen := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, algorithm := range token.Algorithms() {
			alg := string(algorithm)
			key := tokentest.NewKey(alg)
			d.register(store.Client{
				ID: "signs-" + alg, Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"},
				Proof: store.ClientProof{Method: methodPrivateKeyJWT, JWKS: tokentest.JWKS(key), Algorithms: []string{alg}},
			})
			asserted[alg] = d.asserted(d.assertion(key, tokentest.ClientAssertion("signs-"+alg, d.url, d.clock.now()))).StatusCode == 200
			proven[alg] = d.tokenWith(machineGrant, basic("machine", webSecret), d.proof(key, "POST", pathToken, "")).StatusCode == 200
		}
		for _, alg := range append(keys.Algorithms(), "none", "HS256", "ES384") {
			chosen[alg] = len(d.server.admin.CheckClient(store.Client{ID: "x", Type: store.Public, IDTokenAlgorithm: alg})) == 0
			if !chosen[alg] {
				continue
			}
			id := "reads-" + alg
			d.register(store.Client{ID: id, Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{webCB}, IDTokenAlgorithm: alg})
			code := d.browser().allow("alice", authorization("client_id", id, "scope", "openid")).Query().Get("code")
			head, _ := decodeJWS(d, d.tokenWith(redemption(code, "client_id", id)).json(d)["id_token"])
			chosen[alg] = head["alg"] == alg
		}
		for _, endpoint := range []string{"token", "revocation", "introspection"} {
			d.advertises(endpoint+"_endpoint_auth_signing_alg_values_supported", asserted)
		}
		d.advertises("dpop_signing_alg_values_supported", proven)
		d.advertises("id_token_signing_alg_values_supported", chosen)
		d.advertises("introspection_signing_alg_values_supported", d.introspects())
	})
}

// introspects tells what the answers to introspections can be signed with.
func (d *described) introspects() map[string]bool {
	d.Helper()
	works := map[string]bool{}
	for _, alg := range append(keys.Algorithms(), "none", "HS256", "ES384") {
		c := store.Client{ID: "asks-" + alg, Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantClientCredentials}, IntrospectionAlgorithm: alg}
		if len(d.server.admin.CheckClient(c)) > 0 {
			continue
		}
		d.register(c)
		a := d.request("POST", pathIntrospect, "token=x", basic(c.ID, webSecret), header("Accept", typeIntrospection))
		head, _ := decodeJWS(d, a.body)
		works[alg] = head["alg"] == alg
	}
	return works
}

// The claims are those of ID tokens and of userinfo, and the languages those of
// the pages.
func TestMetadataClaimsAndLocales(t *testing.T) {
	bothSites(t, func(d *described) {
		got := d.tokens()
		_, claims := decodeJWS(d, got["id_token"])
		maps.Copy(claims, d.request("GET", pathUserinfo, "", header("Authorization", "Bearer "+got["access_token"].(string))).json(d))
		works := map[string]bool{}
		for name := range claims {
			works[name] = true
		}
		d.advertises("claims_supported", works)
		speaks := map[string]bool{}
		for _, tag := range []string{"en", "de", "fr"} {
			page := d.browser().get(pathAuthorize + "?" + authorization("ui_locales", tag).Encode())
			speaks[tag] = strings.Contains(page.body, `<html lang="`+tag+`">`)
		}
		d.advertises("ui_locales_supported", speaks)
	})
}

// What is said by yes or no.
func TestMetadataSwitches(t *testing.T) {
	bothSites(t, func(d *described) {
		b := d.browser()
		q := b.allow("alice", authorization()).Query()
		byURI := b.ended(b.get(pathAuthorize + "?" + authorization("request_uri", "https://app.example/r").Encode())).Query()
		for name, works := range map[string]bool{
			"authorization_response_iss_parameter_supported": q.Get("iss") == d.url,
			"request_uri_parameter_supported":                byURI.Get("error") != codeRequestURINotSupported,
			"require_pushed_authorization_requests":          q.Get("error") != "",
		} {
			if d.document[name] != works {
				d.Errorf("%s is %v", name, d.document[name])
			}
		}
		ofWeb := d.claims(d.tokens("scope", "openid")["access_token"]).Subject()
		d.register(store.Client{ID: "told", Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{webCB}, BackchannelLogoutURI: "https://app.example/out"})
		code := d.browser().allow("alice", authorization("client_id", "told", "scope", "openid")).Query().Get("code")
		told := d.claims(d.tokenWith(redemption(code, "client_id", "told")).json(d)["access_token"])
		d.advertises("subject_types_supported", map[string]bool{"public": told.Subject() == ofWeb, "pairwise": told.Subject() != ofWeb})
		if err := d.server.store.RevokeSession(d.Context(), told.SessionID()); err != nil {
			d.Fatal(err)
		}
		due, err := d.server.store.DueLogouts(d.Context(), 10)
		if err != nil {
			d.Fatal(err)
		}
		if d.document["backchannel_logout_supported"] != (len(due) == 1) || d.document["backchannel_logout_session_supported"] != (len(due) == 1 && due[0].SessionID == told.SessionID()) {
			d.Errorf("logouts to tell of: %v", due)
		}
	})
}
