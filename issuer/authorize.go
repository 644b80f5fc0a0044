package issuer

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// authorize is the authorization endpoint (RFC 6749 §3.1). Until the redirect
// URI is proven, whatever is wrong is told to the person on a page; from then
// on it is the client's to know.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	f, err := pageForm(r)
	if err != nil {
		s.badRequest(w, r, err)
		return
	}
	wasPushed := pushed(f)
	if wasPushed {
		if f, err = s.takePushed(r, f); err != nil {
			s.badRequest(w, r, err)
			return
		}
	}
	client, err := s.provenClient(r, f)
	if err != nil {
		s.audit.enterDenied(r.Context(), "", failureOf(err))
		s.badRequest(w, r, err)
		return
	}
	flow, err := s.authorization(client, f)
	if err == nil && s.mustPush(client) && !wasPushed {
		err = fail(codeInvalidRequest, "the client's requests have to be pushed")
	}
	var refused *failure
	switch {
	case errors.As(err, &refused):
		s.audit.denied(r.Context(), client.ID, refused)
		s.login.Leave(w, r, s.errorReturn(returnOf(f), refused.code, refused.description))
	case err != nil:
		s.badRequest(w, r, err)
	default:
		s.login.Begin(w, r, flow)
	}
}

// pageForm reads the parameters of a page, whichever way they come.
func pageForm(r *http.Request) (form, error) {
	if r.Method == http.MethodPost {
		return bodyForm(r)
	}
	return queryForm(r)
}

// provenClient is the client whose registered redirect URI the request names.
// redirect_uri is always required: what a client leaves out, a mix-up fills in
// (OpenID Connect Core §3.1.2.1).
func (s *server) provenClient(r *http.Request, f form) (client store.Client, err error) {
	if !f.has("client_id") || !f.has("redirect_uri") {
		return client, fail(codeInvalidRequest, "client_id or redirect_uri is missing")
	}
	client, err = s.store.Client(r.Context(), f.get("client_id"))
	switch {
	case errors.Is(err, store.ErrNotFound), client.Disabled:
		return client, fail(codeInvalidRequest, "the client is not known").because(fmt.Errorf("client %.64q", f.get("client_id")))
	case err != nil:
		return client, fmt.Errorf("reading client: %w", err)
	case !provenRedirect(client, f.get("redirect_uri")):
		return client, fail(codeInvalidRequest, "the redirect URI is not registered for the client").
			because(fmt.Errorf("client %q, redirect URI %.200q", client.ID, f.get("redirect_uri")))
	}
	return client, nil
}

// badRequest is what a person sees where the client cannot be told.
func (s *server) badRequest(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err)
	s.audit.refused(r.Context(), "authorize", f)
	status := f.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	s.login.Problem(w, r, status, "request", "mistake", f.description)
}

// authorization checks all that the client may be told about, and makes the
// flow.
func (s *server) authorization(client store.Client, f form) (*login.Flow, error) {
	for _, check := range []func(store.Client, form) error{checkResponse, checkChallenge, checkKey, checkUnsupported} {
		if err := check(client, f); err != nil {
			return nil, err
		}
	}
	scopes, resources, err := s.catalog.askedOfPerson(client, f)
	if err != nil {
		return nil, err
	}
	flow := &login.Flow{
		ClientID: client.ID, RedirectURI: f.get("redirect_uri"), State: f.get("state"), Nonce: f.get("nonce"),
		Challenge: f.get("code_challenge"), Scopes: scopes, Resources: resources,
		FormPost: f.get("response_mode") == modeFormPost, KeyThumbprint: f.get("dpop_jkt"),
		LoginHint: f.get("login_hint"), UILocales: f.get("ui_locales"), AskConsent: !assured(client, f.get("redirect_uri")),
	}
	if err := prompt(flow, f); err != nil {
		return nil, err
	}
	if hint := f.get("id_token_hint"); hint != "" {
		if flow.Subject, err = s.hinted(hint, client.ID); err != nil {
			return nil, fail(codeInvalidRequest, "id_token_hint is no ID token of this issuer for the client").because(err)
		}
	}
	return flow, nil
}

// assured tells whether the redirect itself proves who the client is. Any
// application can listen on a loopback port or claim a private-use scheme, so
// such clients are never let through without a person's consent (RFC 8252
// §8.6).
func assured(client store.Client, redirectURI string) bool {
	return client.Type != store.Native || strings.HasPrefix(redirectURI, "https://")
}

// responseModes are the ways to answer: in the redirect's query, or in a form
// that the browser posts (OAuth 2.0 Form Post Response Mode).
var responseModes = []string{"query", modeFormPost}

const modeFormPost = "form_post"

func checkResponse(client store.Client, f form) error {
	switch {
	case !f.has("response_type"):
		return fail(codeInvalidRequest, "response_type is missing")
	case f.get("response_type") != "code":
		return fail(codeUnsupportedResponseType, "only the response type code is supported")
	case f.has("response_mode") && !slices.Contains(responseModes, f.get("response_mode")):
		return fail(codeInvalidRequest, "only the response modes query and form_post are supported")
	case !slices.Contains(client.GrantTypes, grantAuthorizationCode):
		return fail(codeUnauthorizedClient, "the client may not use this grant type")
	}
	return nil
}

// checkChallenge demands PKCE with S256 of every client (RFC 9700 §2.1.1). A
// challenge is the base64url of 32 bytes (RFC 7636 §4.2).
func checkChallenge(_ store.Client, f form) error {
	challenge := f.get("code_challenge")
	switch {
	case challenge == "":
		return fail(codeInvalidRequest, "code_challenge is missing: PKCE is required")
	case f.get("code_challenge_method") != "S256":
		return fail(codeInvalidRequest, "code_challenge_method must be S256")
	case len(challenge) != 43 || strings.Trim(challenge, challengeAlphabet) != "":
		return fail(codeInvalidRequest, "code_challenge is not the base64url of a SHA-256")
	}
	return nil
}

// checkKey wants dpop_jkt to be a thumbprint (RFC 9449 §10).
func checkKey(_ store.Client, f form) error {
	if f.has("dpop_jkt") && !token.IsThumbprint(f.get("dpop_jkt")) {
		return fail(codeInvalidRequest, "dpop_jkt is not the base64url of a SHA-256")
	}
	return nil
}

const challengeAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// checkUnsupported refuses what must not be ignored (OpenID Connect Core
// §3.1.2.6), and values that no client needs that long.
func checkUnsupported(_ store.Client, f form) error {
	switch {
	case f.has("request"):
		return fail(codeRequestNotSupported, "request objects are not supported")
	case f.has("request_uri"):
		return fail(codeRequestURINotSupported, "request_uri is not supported")
	case f.has("registration"):
		return fail(codeRegistrationNotSupport, "registration is not supported")
	case len(f.get("state")) > 1024, len(f.get("nonce")) > 512, len(f.get("login_hint")) > 254, len(f.get("ui_locales")) > 256:
		return fail(codeInvalidRequest, "state (1024 bytes), nonce (512), login_hint (254) or ui_locales (256) is too long")
	}
	return nil
}

// askedOfPerson are the scopes and resources of an authorization request.
func (c *catalog) askedOfPerson(client store.Client, f form) (scopes, resources []string, err error) {
	if scopes, err = c.askedScopes(client, f); err != nil {
		return nil, nil, err
	}
	if resources, err = c.askedResources(f); err != nil {
		return nil, nil, err
	}
	if err := c.checkReach(scopes, resources); err != nil {
		return nil, nil, err
	}
	return c.within(scopes, resources), resources, nil
}

// prompt reads prompt and max_age (OpenID Connect Core §3.1.2.1).
func prompt(flow *login.Flow, f form) error {
	prompts := strings.Fields(f.get("prompt"))
	for _, p := range prompts {
		switch p {
		case "none":
			flow.Silent = true
		case "login", "select_account":
			flow.Reauthenticate = true
		case "consent":
			flow.AskConsent = true
		default:
			return fail(codeInvalidRequest, "an unknown prompt was asked for")
		}
	}
	if flow.Silent && len(prompts) > 1 {
		return fail(codeInvalidRequest, "prompt none goes with no other")
	}
	if f.has("max_age") {
		seconds, err := strconv.ParseUint(f.get("max_age"), 10, 31)
		if err != nil {
			return fail(codeInvalidRequest, "max_age is no number of seconds")
		}
		age := int64(seconds)
		flow.MaxAge = &age
	}
	return nil
}

// appendQuery leaves what a redirect URI has as it was registered.
func appendQuery(uri string, query url.Values) string {
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	return uri + separator + query.Encode()
}
