package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/store"
)

// Dynamic client registration (RFC 7591) and its management (RFC 7592), on one
// path: POST registers, GET, PUT and DELETE with ?client_id= manage.

// Ways to register, `issuer.registration.access`.
const (
	registerOff   = "off"
	registerToken = "token"
	registerOpen  = "open"
)

const (
	registeredPrefix  = "dyn_"
	secretTokenPrefix = "ghcs_"
	managementPrefix  = "ghrm_"
)

// Registration says whether clients may register themselves.
type Registration struct {
	// Who may register clients: off (nobody), token (whoever has an initial
	// access token, which `gatehouse client registration-token add` makes with a
	// policy of its own), or open (everybody, within the policy below). Danger:
	// with open anybody can make clients, 60 in an hour at most. Default: off.
	Access string `yaml:"access"`
	// The grant types that open registration may ask for. Default: none.
	GrantTypes []string `yaml:"grant_types"`
	// The scopes that open registration may ask for. Default: none.
	Scopes []string `yaml:"scopes"`
	// The hosts that redirect URIs of open registration may name; *.HOST stands
	// for subdomains. Default: none.
	RedirectHosts []string `yaml:"redirect_hosts"`
	// The private-use schemes, such as com.example.app, that redirect URIs of
	// native clients of open registration may have. Danger: any application on a
	// device may claim a scheme; PKCE keeps the code from it. Default: none.
	RedirectSchemes []string `yaml:"redirect_schemes"`
	// What each client of open registration gets, whether it asks for it or not:
	// require_pushed_authorization_requests, dpop_bound_access_tokens,
	// tls_client_certificate_bound_access_tokens. Default: none.
	Require []string `yaml:"require"`
}

func (r Registration) policy() store.RegistrationPolicy {
	return store.RegistrationPolicy{GrantTypes: r.GrantTypes, Scopes: r.Scopes, RedirectHosts: r.RedirectHosts, RedirectSchemes: r.RedirectSchemes, Require: r.Require}
}

func (r Registration) validate(scopes []string) (vs conf.Violations) {
	switch r.Access {
	case registerOpen:
		return admin.CheckPolicy(r.policy(), scopes)
	case registerOff, registerToken:
		if len(r.GrantTypes)+len(r.Scopes)+len(r.RedirectHosts)+len(r.RedirectSchemes)+len(r.Require) > 0 {
			vs.Add("access", r.Access, "makes the policy beside it idle", "write open, or leave the policy out: tokens have their own")
		}
	default:
		vs.Add("access", r.Access, "is no way to register", "write off, token or open")
	}
	return vs
}

func (s *server) registrations(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return s.register(w, r)
	}
	return s.manage(w, r)
}

// register is the client registration endpoint (RFC 7591 §3).
func (s *server) register(w http.ResponseWriter, r *http.Request) error {
	if r.URL.RawQuery != "" {
		return fail(codeInvalidRequest, "registering takes no query")
	}
	policy, token, tokenID, err := s.mayRegister(r)
	if err != nil {
		return err
	}
	m, err := readMetadata(r)
	if err != nil {
		return err
	}
	management := store.NewToken(managementPrefix)
	c := m.client(policy)
	c.ID = store.NewID(registeredPrefix)
	if c.Name == "" {
		c.Name = c.ID
	}
	c.Registration = &store.Registration{Token: store.HashOf(management), TokenID: tokenID, Policy: policy}
	if err := s.checkRegistered(c, store.Client{}, m, policy); err != nil {
		return err
	}
	secret := ""
	if c.Type == store.Confidential && c.Proof.Method == "" {
		secret = store.NewToken(secretTokenPrefix)
		c.Secret = store.HashOf(secret)
	}
	if token.IsZero() && !s.registration.admit(callerOf(r.Context()).address, s.now()) {
		return &failure{code: "temporarily_unavailable", description: "there were too many registrations; try again later", status: http.StatusTooManyRequests}
	}
	if err := s.store.RegisterClient(asking(r.Context(), c), c, token); err != nil {
		if errors.Is(err, store.ErrNotFound) { // its last use was taken meanwhile
			return badBearer(err)
		}
		return fmt.Errorf("registering a client: %w", err)
	}
	return s.describeRegistered(r.Context(), w, http.StatusCreated, c.ID, secret, management)
}

// mayRegister is the policy that a registration stands under. It only reads:
// strangers write nothing.
func (s *server) mayRegister(r *http.Request) (p store.RegistrationPolicy, token store.Hash, id string, err error) {
	if s.config.Registration.Access == registerOpen && len(r.Header["Authorization"]) == 0 {
		return s.config.Registration.policy(), token, "", nil
	}
	bearer, err := registrationBearer(r)
	if err != nil {
		return p, token, "", err
	}
	token = store.HashOf(bearer)
	found, err := s.store.RegistrationToken(r.Context(), token)
	if errors.Is(err, store.ErrNotFound) {
		return p, token, "", badBearer(errors.New("no such initial access token"))
	}
	return found.Policy, token, found.ID, err
}

// checkRegistered holds a client against the rules for all clients and against
// the policy that it registers under. What it has already (was) stays allowed:
// an administrator may have given it more than the policy does.
func (s *server) checkRegistered(c, was store.Client, m *clientMetadata, p store.RegistrationPolicy) error {
	if err := m.unsupported(s.config, was.Proof, p.RedirectHosts); err != nil {
		return err
	}
	if err := newUnder(c, was, p); err != nil {
		return err
	}
	found := s.admin.CheckClient(c)
	if len(found) == 0 {
		return nil
	}
	switch first := found[0]; {
	case isRedirectKey(first.Key):
		return fail(codeInvalidRedirectURI, first.Key+" "+first.Problem)
	case first.Key == "proof.jwks": // the problem quotes what was sent
		return fail(codeInvalidMetadata, "jwks has no public key with a kid that can be used, or jwks_uri stands beside it or is missing").because(errors.New(first.Problem))
	default:
		return fail(codeInvalidMetadata, first.Key+" "+first.Problem)
	}
}

// newUnder holds what a client did not have yet against a policy.
func newUnder(c, was store.Client, p store.RegistrationPolicy) error {
	for _, grant := range c.GrantTypes {
		if !slices.Contains(p.GrantTypes, grant) && !slices.Contains(was.GrantTypes, grant) {
			return fail(codeInvalidMetadata, "a grant type may not be registered").because(fmt.Errorf("grant type %.64q", grant))
		}
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(p.Scopes, scope) && !slices.Contains(was.Scopes, scope) {
			return fail(codeInvalidMetadata, "a scope may not be registered").because(fmt.Errorf("scope %.128q", scope))
		}
	}
	for _, list := range [][2][]string{{c.RedirectURIs, was.RedirectURIs}, {c.PostLogoutRedirectURIs, was.PostLogoutRedirectURIs}} {
		for _, uri := range list[0] {
			if !slices.Contains(list[1], uri) && !redirectAllowed(uri, c.Type, p) {
				return fail(codeInvalidRedirectURI, "a redirect URI names a host or scheme that may not be registered").because(fmt.Errorf("redirect URI %.200q", uri))
			}
		}
	}
	if uri := c.BackchannelLogoutURI; uri != "" && uri != was.BackchannelLogoutURI && !hostAllowed(uri, p.RedirectHosts) {
		return fail(codeInvalidMetadata, "backchannel_logout_uri names a host that may not be registered")
	}
	return nil
}

// manage is the client configuration endpoint (RFC 7592 §2).
func (s *server) manage(w http.ResponseWriter, r *http.Request) error {
	f, err := queryForm(r)
	if err != nil {
		return err
	}
	bearer, err := registrationBearer(r)
	if err != nil {
		return err
	}
	id, token := f.get("client_id"), store.HashOf(bearer)
	c, err := s.store.Client(r.Context(), id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("reading client: %w", err)
	}
	// Whatever is wrong, the answer is the same (RFC 7592 §3).
	if err != nil || c.Registration == nil || c.Disabled || !c.Registration.Token.Matches(bearer) {
		return badBearer(errors.New("no such client with this registration access token"))
	}
	callerOf(r.Context()).client, callerOf(r.Context()).proven = c.ID, !anybodys(c)
	switch r.Method {
	case http.MethodPut:
		return s.reregister(w, r, c, token)
	case http.MethodDelete:
		if err := s.store.DeleteRegistration(r.Context(), id, token); err != nil {
			return orBadBearer(err)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		return s.describeRegistered(r.Context(), w, http.StatusOK, id, "", bearer)
	}
}

// describeRegistered answers with the client as it is stored (RFC 7591 §3.2.1).
func (s *server) describeRegistered(ctx context.Context, w http.ResponseWriter, status int, id, secret, management string) error {
	c, err := s.store.Client(ctx, id)
	if err != nil {
		return orBadBearer(err)
	}
	writeJSON(w, status, registeredMetadata(c, s.config.URL+pathRegister, secret, management))
	return nil
}

// registrationBearer is the token in the Authorization header, the only place
// it may stand (RFC 6750 §2.1).
func registrationBearer(r *http.Request) (string, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return "", &failure{code: codeInvalidRequest, description: "the access token is missing", status: http.StatusUnauthorized, challenge: `Bearer realm="gatehouse"`}
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", badBearer(errors.New("the Authorization header holds no single Bearer token"))
	}
	return token, nil
}
