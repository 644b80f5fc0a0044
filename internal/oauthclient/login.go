package oauthclient

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callbackPath is where the browser comes back to; the client's registered
// redirect URI is http://127.0.0.1/callback, whose port may vary (RFC 8252
// §7.3).
const callbackPath = "/callback"

// Login gets a token for a person: show is given the URL to open in a browser,
// and Login waits until the browser comes back or ctx ends.
func (c *Client) Login(ctx context.Context, scopes []string, resource string, show func(url string)) (Tokens, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Tokens{}, fmt.Errorf("listening for the browser on loopback: %w", err)
	}
	a := attempt{
		issuer:   c.metadata.Issuer,
		state:    rand.Text(),
		verifier: rand.Text() + rand.Text(), // RFC 7636 §4.1: 43 characters at least
		redirect: "http://" + listener.Addr().String() + callbackPath,
		done:     make(chan outcome, 1),
	}
	server := &http.Server{Handler: http.HandlerFunc(a.callback), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	defer shutdown(server)
	show(c.metadata.Authorization + "?" + a.query(c.id, scopes, resource).Encode())
	select {
	case <-ctx.Done():
		return Tokens{}, fmt.Errorf("waiting for the browser: %w", ctx.Err())
	case o := <-a.done:
		if o.err != nil {
			return Tokens{}, o.err
		}
		return c.token(ctx, url.Values{
			"grant_type": {"authorization_code"}, "code": {o.code},
			"redirect_uri": {a.redirect}, "code_verifier": {a.verifier},
		})
	}
}

// shutdown lets the browser have its page.
func shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.Close()
	}
}

// attempt is one login.
type attempt struct {
	issuer, state, verifier, redirect string
	done                              chan outcome
}

type outcome struct {
	code string
	err  error
}

func (a *attempt) query(client string, scopes []string, resource string) url.Values {
	challenge := sha256.Sum256([]byte(a.verifier))
	query := url.Values{
		"response_type":         {"code"},
		"client_id":             {client},
		"redirect_uri":          {a.redirect},
		"state":                 {a.state},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}
	set(query, "scope", strings.Join(scopes, " "))
	set(query, "resource", resource)
	return query
}

// callback takes the first answer that carries our state; any other page of the
// browser can call here too, and changes nothing.
func (a *attempt) callback(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	query := r.URL.Query()
	if r.URL.Path != callbackPath || query.Get("state") != a.state {
		http.Error(w, "This is not the login that is waited for.", http.StatusBadRequest)
		return
	}
	o := a.read(query)
	select {
	case a.done <- o:
	default: // the browser came twice
	}
	if o.err != nil {
		http.Error(w, "The login did not succeed; the terminal says why.", http.StatusBadRequest)
		return
	}
	io.WriteString(w, "You are logged in. This page can be closed.\n")
}

func (a *attempt) read(query url.Values) outcome {
	// RFC 9207 §2.4: an answer of another issuer is an attack.
	if iss := query.Get("iss"); iss != a.issuer {
		return outcome{err: fmt.Errorf("the answer comes from the issuer %q, not from %q", iss, a.issuer)}
	}
	if code := query.Get("error"); code != "" {
		return outcome{err: errors.New(strings.TrimSuffix("the issuer said "+code+": "+query.Get("error_description"), ": "))}
	}
	if query.Get("code") == "" {
		return outcome{err: errors.New("the issuer sent no code")}
	}
	return outcome{code: query.Get("code")}
}
