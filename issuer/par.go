package issuer

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// requestURIPrefix begins the request_uri of a pushed request (RFC 9126
	// §2.2).
	requestURIPrefix = "urn:ietf:params:oauth:request_uri:"
	// pushedLifetime is how long a client may take to send the browser (RFC 9126
	// §2.2 suggests 5 to 600 seconds).
	pushedLifetime = time.Minute
	// maxPushed bounds a pushed request, in bytes: what it becomes has to fit
	// into a cookie (login.maxSealed).
	maxPushed = 8 << 10
)

// clientParameters prove the client and are no part of what it asks for.
var clientParameters = []string{"client_secret", "client_assertion", "client_assertion_type"}

// push is the pushed authorization request endpoint (RFC 9126): a client says
// over a connection of its own what it asks for, before a browser is involved.
// All is checked here that is checked again once the browser comes.
func (s *server) push(w http.ResponseWriter, r *http.Request) error {
	f, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticate(r.Context(), r, f)
	if err != nil {
		return err
	}
	if wait := s.pushes.wait(client, callerOf(r.Context()).address, s.now()); wait > 0 {
		return &failure{code: codeTemporarilyUnavailable, description: "too many requests are being pushed", status: http.StatusTooManyRequests, retryAfter: wait}
	}
	if f.has("request_uri") { // RFC 9126 §2.1
		return fail(codeInvalidRequest, "request_uri cannot be pushed")
	}
	proof, err := s.proofOf(w, r, "")
	if err == nil {
		err = s.spend(r, proof, !anybodys(client))
	}
	if err != nil {
		return err
	}
	asked := f.without(clientParameters...)
	asked["client_id"] = []string{client.ID}
	if proof != nil { // RFC 9449 §10.1
		if asked.has("dpop_jkt") && asked.get("dpop_jkt") != proof.Thumbprint() {
			return fail(codeInvalidRequest, "dpop_jkt is not the key of the DPoP proof")
		}
		asked["dpop_jkt"] = []string{proof.Thumbprint()}
	}
	if !asked.has("redirect_uri") || !provenRedirect(client, asked.get("redirect_uri")) {
		return fail(codeInvalidRequest, "redirect_uri is missing, or is not registered for the client")
	}
	if _, err := s.authorization(client, asked); err != nil {
		return err
	}
	return s.keepPushed(w, r, client, asked)
}

// keepPushed stores a checked request and tells the client its name. Only the
// hash of the random part is kept.
func (s *server) keepPushed(w http.ResponseWriter, r *http.Request, client store.Client, asked form) error {
	parameters := url.Values(asked).Encode()
	if len(parameters) > maxPushed {
		return tooLarge()
	}
	name := store.NewToken("")
	err := s.store.PushRequest(r.Context(), store.PushedRequest{
		Hash: store.HashOf(name), ClientID: client.ID, Parameters: parameters, ExpiresAt: s.now().Add(pushedLifetime),
	})
	if err != nil {
		return fmt.Errorf("storing a pushed request: %w", err)
	}
	writeJSON(w, http.StatusCreated, map[string]any{
		"request_uri": requestURIPrefix + name, "expires_in": int(pushedLifetime / time.Second),
	})
	return nil
}

// pushed tells whether an authorization request names a pushed one.
func pushed(f form) bool { return strings.HasPrefix(f.get("request_uri"), requestURIPrefix) }

// takePushed is the request that a client pushed, in place of the one that
// names it. It counts once, and nothing may stand beside its name, which would
// not have been pushed (RFC 9126 §4).
func (s *server) takePushed(r *http.Request, f form) (form, error) {
	for name := range f {
		if !slices.Contains([]string{"client_id", "request_uri"}, name) {
			return nil, fail(codeInvalidRequest, "beside request_uri there may be client_id alone")
		}
	}
	name, _ := strings.CutPrefix(f.get("request_uri"), requestURIPrefix)
	taken, err := s.store.TakeRequest(r.Context(), store.HashOf(name), f.get("client_id"))
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExpired):
		return nil, fail(codeInvalidRequest, "request_uri is unknown, used or expired").because(err)
	case err != nil:
		return nil, fmt.Errorf("taking a pushed request: %w", err)
	}
	return parseForm(taken.Parameters)
}

// mustPush tells whether a client's requests have to be pushed.
func (s *server) mustPush(client store.Client) bool {
	return client.RequirePushed || s.config.RequirePushedRequests
}
