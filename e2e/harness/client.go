package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Answer is a response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Proto  string
}

// Seen is the request as the service saw it; the zero value where none did.
func (a Answer) Seen() (seen Seen) {
	json.Unmarshal([]byte(a.Body), &seen)
	return seen
}

// JSON reads the body.
func (a Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(a.Body), &fields); err != nil {
		t.Fatalf("%d %q is no JSON object: %v", a.Status, a.Body, err)
	}
	return fields
}

// Challenge is the WWW-Authenticate header.
func (a Answer) Challenge() string { return strings.Join(a.Header.Values("WWW-Authenticate"), " // ") }

func (a Answer) String() string {
	return fmt.Sprintf("%d %q %s", a.Status, a.Challenge(), strings.TrimSpace(a.Body))
}

// HTTP is a client that trusts the gate's certificate and follows no redirect.
func (s *System) HTTP() *http.Client {
	return &http.Client{
		Transport:     s.transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Call sends a request to the gate, with a Bearer token unless it is empty.
func (s *System) Call(t testing.TB, method, path, token string) Answer {
	t.Helper()
	answer, err := s.TryCall(method, path, token)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TryCall is Call where a connection may fail.
func (s *System) TryCall(method, path, token string) (Answer, error) {
	request, err := http.NewRequest(method, s.URL(path), nil)
	if err != nil {
		return Answer{}, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return s.do(request)
}

// Send sends any request.
func (s *System) Send(t testing.TB, request *http.Request) Answer {
	t.Helper()
	answer, err := s.do(request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (s *System) do(request *http.Request) (Answer, error) { return Read(s.HTTP(), request) }

// Read sends a request with any client.
func Read(client *http.Client, request *http.Request) (Answer, error) {
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: string(body), Proto: response.Proto}, nil
}

// Expect fails unless a call is answered with a status.
func (s *System) Expect(t testing.TB, status int, method, path, token string) Answer {
	t.Helper()
	answer := s.Call(t, method, path, token)
	if answer.Status != status {
		t.Fatalf("%s %s: %s, want %d", method, path, answer, status)
	}
	return answer
}

// Says is the condition that a call is answered with a status.
func (s *System) Says(status int, method, path, token string) func() error {
	return func() error {
		answer, err := s.TryCall(method, path, token)
		if err != nil {
			return err
		}
		if answer.Status != status {
			return fmt.Errorf("%s %s: %s, want %d", method, path, answer, status)
		}
		return nil
	}
}

// Client is an OAuth client of the system's issuer. Without a secret it is
// public or native.
type Client struct{ ID, Secret string }

// Post sends a form to an endpoint of the issuer, through the gate,
// authenticated as the client.
func (s *System) Post(t testing.TB, path string, c Client, form url.Values) Answer {
	t.Helper()
	answer, err := s.TryPost(t.Context(), path, c, form)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TryPost is Post where a connection may fail.
func (s *System) TryPost(ctx context.Context, path string, c Client, form url.Values) (Answer, error) {
	if c.Secret == "" {
		form.Set("client_id", c.ID)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL(path), strings.NewReader(form.Encode()))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.Secret != "" {
		request.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	return s.do(request)
}

// Tokens are a token endpoint's answer.
type Tokens struct {
	Access    string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int    `json:"expires_in"`
	Scope     string `json:"scope"`
	Refresh   string `json:"refresh_token"`
	ID        string `json:"id_token"`
}

// Tokens asks the token endpoint, which must answer well.
func (s *System) Tokens(t testing.TB, c Client, form url.Values) (tokens Tokens) {
	t.Helper()
	answer := s.Post(t, "/oauth/token", c, form)
	if answer.Status != http.StatusOK {
		t.Fatalf("asking for a token: %s", answer)
	}
	if err := json.Unmarshal([]byte(answer.Body), &tokens); err != nil || tokens.Access == "" {
		t.Fatalf("the token endpoint answered %s: %v", answer, err)
	}
	return tokens
}

// Token gets a client's own access token.
func (s *System) Token(t testing.TB, c Client, scopes ...string) string {
	t.Helper()
	return s.Tokens(t, c, url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(scopes, " ")}}).Access
}

// Robot registers a client and gets a token of it, with the same scopes.
func (s *System) Robot(t testing.TB, id string, scopes ...string) (Client, string) {
	t.Helper()
	c := Client{ID: id, Secret: s.AddClient(t, id, scopes...)}
	return c, s.Token(t, c, scopes...)
}

// Revoke revokes a token at the issuer (RFC 7009).
func (s *System) Revoke(t testing.TB, c Client, token string) {
	t.Helper()
	if answer := s.Post(t, "/oauth/revoke", c, url.Values{"token": {token}}); answer.Status != http.StatusOK {
		t.Fatalf("revoking: %s", answer)
	}
}
