package harness

import (
	"crypto/rand"
	"net/http"
	"testing"
)

// callback is where the shop's people come back to; nothing listens there, as
// browsers of tests stop before.
const callback = "https://shop.example/callback"

// Person is somebody who can log in.
type Person struct{ Login, Password string }

// AddUser registers a person.
func (s *System) AddUser(t testing.TB, login string, roles ...string) Person {
	t.Helper()
	p := Person{Login: login, Password: rand.Text()}
	args := []string{"user", "add", login}
	for _, role := range roles {
		args = append(args, "--role", role)
	}
	s.CLIWithInput(t, p.Password+"\n", args...)
	return p
}

// AddShop registers a confidential client that people log in to.
func (s *System) AddShop(t testing.TB, id string, scopes ...string) Client {
	t.Helper()
	return Client{ID: id, Secret: s.addClient(t, id, scopes, "--redirect-uri", callback)}
}

// AddLogin registers a confidential client that people log in to and that
// redirects to an address of the test's own; flags are more of `client add`.
func (s *System) AddLogin(t testing.TB, id, redirect string, scopes []string, flags ...string) Client {
	t.Helper()
	return Client{ID: id, Secret: s.addClient(t, id, scopes, append(flags, "--redirect-uri", redirect)...)}
}

// Authorization is a fresh request of a shop's.
func (s *System) Authorization(shop Client, scopes ...string) Authorization {
	return Authorization{
		Client: shop, Redirect: callback, Scopes: scopes,
		State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
	}
}

// Login logs a person in to a shop, in a browser of their own, and returns the
// shop's tokens.
func (s *System) Login(t testing.TB, shop Client, p Person, scopes ...string) Tokens {
	t.Helper()
	a := s.Authorization(shop, scopes...)
	back := s.NewBrowser(t).LogIn(s.URL("/oauth/authorize?"+a.Query().Encode()), p.Login, p.Password)
	if back.Query().Get("code") == "" {
		t.Fatalf("the shop got no code: %s", back)
	}
	return s.Tokens(t, shop, a.Redemption(back.Query().Get("code")))
}

// Redirect is where a plain request is redirected to; nothing is followed.
func Redirect(client *http.Client, address string) (status int, location string, err error) {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := Read(client, request)
	if err != nil {
		return 0, "", err
	}
	return answer.Status, answer.Header.Get("Location"), nil
}
