package clients

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// go-oidc with x/oauth2: what most Go services log people in with.
func TestGoClient(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	p := s.AddUser(t, "alice", "customer")
	redirect := callback(t)
	c := s.AddLogin(t, "go-oidc", redirect, scopes)
	ctx := oidc.ClientContext(t.Context(), s.HTTP())
	provider, err := oidc.NewProvider(ctx, s.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	config := oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, Endpoint: provider.Endpoint(), RedirectURL: redirect, Scopes: scopes}
	verifier, state, nonce := oauth2.GenerateVerifier(), rand.Text(), rand.Text()
	back := s.NewBrowser(t).LogIn(config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce)), p.Login, p.Password)
	if back.Query().Get("state") != state || back.Query().Get("iss") != s.URL("") {
		t.Errorf("it came back to %s", back)
	}
	tokens, err := config.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	identity, err := provider.Verifier(&oidc.Config{ClientID: c.ID}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.VerifyAccessToken(tokens.AccessToken); err != nil || identity.Nonce != nonce {
		t.Errorf("at_hash: %v, nonce %q", err, identity.Nonce)
	}
	person, err := provider.UserInfo(ctx, config.TokenSource(ctx, tokens))
	if err != nil || person.Subject != identity.Subject {
		t.Errorf("userinfo %+v: %v", person, err)
	}
	// A source whose token has expired refreshes it.
	stale := *tokens
	stale.Expiry = stale.Expiry.Add(-24 * 365 * 60 * 60 * 1e9)
	expect200(ctx, t, oauth2.NewClient(ctx, config.TokenSource(ctx, &stale)), s.URL("/orders"))
}

func TestGoRobot(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	config := clientcredentials.Config{
		ClientID: "robot", ClientSecret: s.AddClient(t, "robot", "read:orders"),
		TokenURL: s.URL("/oauth/token"), Scopes: []string{"read:orders"},
	}
	ctx := oidc.ClientContext(t.Context(), s.HTTP())
	expect200(ctx, t, config.Client(ctx), s.URL("/orders"))
}

func expect200(ctx context.Context, t *testing.T, client *http.Client, address string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		t.Errorf("%s answers %d: %s", address, response.StatusCode, body)
	}
}
