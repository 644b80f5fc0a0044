package oauthclient

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// fake is an issuer that accepts one client and checks what it is sent.
type fake struct {
	*httptest.Server
	revoked   string
	challenge string
	redirect  string
}

func newFake(t *testing.T) *fake {
	f := &fake{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/token","revocation_endpoint":"%[1]s/revoke"}`, f.URL)
	})
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) { f.revoked = r.PostFormValue("token") })
	f.Server = httptest.NewTLSServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	proof := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case basic && id == "robot" && secret == url.QueryEscape("s%cret") && r.PostFormValue("grant_type") == "client_credentials":
		fmt.Fprintf(w, `{"access_token":"at %s","token_type":"Bearer"}`, r.PostFormValue("scope"))
	case !basic && r.PostFormValue("client_id") == "cli" && r.PostFormValue("code") == "c0de" &&
		r.PostFormValue("redirect_uri") == f.redirect && base64.RawURLEncoding.EncodeToString(proof[:]) == f.challenge:
		fmt.Fprint(w, `{"access_token":"person","token_type":"Bearer"}`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"who are you"}`)
	}
}

func (f *fake) discover(t *testing.T, id, secret string) *Client {
	t.Helper()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	c, err := Discover(t.Context(), Config{Issuer: f.URL, Roots: roots, ID: id, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientCredentialsAndRevocation(t *testing.T) {
	f := newFake(t)
	tokens, err := f.discover(t, "robot", "s%cret").ClientCredentials(t.Context(), []string{"a", "b"}, "")
	if err != nil || tokens.AccessToken != "at a b" {
		t.Fatalf("%v %v", tokens, err)
	}
	if err := f.discover(t, "robot", "s%cret").Revoke(t.Context(), "t0ken"); err != nil || f.revoked != "t0ken" {
		t.Errorf("revoked %q: %v", f.revoked, err)
	}
	_, err = f.discover(t, "robot", "wrong").ClientCredentials(t.Context(), nil, "")
	if err == nil || !strings.Contains(err.Error(), "invalid_client: who are you") {
		t.Errorf("a refusal reads %v", err)
	}
}

func TestDiscoverRefusesAnotherIssuersMetadata(t *testing.T) {
	f := newFake(t)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	if _, err := Discover(t.Context(), Config{Issuer: f.URL}); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	if _, err := Discover(t.Context(), Config{Issuer: f.URL + "/", Roots: roots}); err == nil {
		t.Error("metadata of another issuer was taken")
	}
}

// browser answers the authorization request with these parameters, after
// pages that have nothing to do with it tried to answer first.
func (f *fake) browser(t *testing.T, answer url.Values) func(string) {
	return func(shown string) {
		u, err := url.Parse(shown)
		if err != nil {
			t.Error(err)
			return
		}
		asked := u.Query()
		f.challenge, f.redirect = asked.Get("code_challenge"), asked.Get("redirect_uri")
		answer.Set("state", asked.Get("state"))
		for _, stray := range []string{"/", "/callback?code=evil&state=guess&iss=" + f.URL} {
			if status := visit(t, strings.TrimSuffix(f.redirect, callbackPath)+stray); status != http.StatusBadRequest {
				t.Errorf("%s was answered %d", stray, status)
			}
		}
		visit(t, f.redirect+"?"+answer.Encode())
	}
}

func visit(t *testing.T, where string) int {
	t.Helper()
	response, err := http.Get(where)
	if err != nil {
		t.Error(err)
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

func TestLogin(t *testing.T) {
	f := newFake(t)
	c := f.discover(t, "cli", "")
	tokens, err := c.Login(t.Context(), []string{"read"}, "", f.browser(t, url.Values{"code": {"c0de"}, "iss": {f.URL}}))
	if err != nil || tokens.AccessToken != "person" {
		t.Errorf("%v %v", tokens, err)
	}
	for name, answer := range map[string]url.Values{
		"another issuer": {"code": {"c0de"}, "iss": {"https://evil.example"}},
		"no issuer":      {"code": {"c0de"}},
		"an error":       {"error": {"access_denied"}, "iss": {f.URL}},
		"no code":        {"iss": {f.URL}},
	} {
		if tokens, err := c.Login(t.Context(), nil, "", f.browser(t, answer)); err == nil {
			t.Errorf("%s: got %v", name, tokens)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	if _, err := c.Login(ended, nil, "", func(string) { cancel() }); err == nil {
		t.Error("did not end with its context")
	}
}
