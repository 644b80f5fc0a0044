package store

import (
	"context"
	"slices"
	"time"
)

// Registration is how a client that registered itself (RFC 7591) manages
// itself (RFC 7592).
type Registration struct {
	// Token is the hash of the registration access token.
	Token Hash
	// TokenID is the initial access token it registered with; empty: none was
	// asked for.
	TokenID string `json:",omitempty"`
	// Policy bounds what the client may register, also when it updates itself.
	Policy RegistrationPolicy
	// Held are the fields that an administrator has set since: the client's
	// updates do not change them.
	Held []string `json:",omitempty"`
}

// Fields of a client that an administrator can hold. Grant types and scopes are
// held by the policy; what makes a client safer, and its tokens' lifetime, no
// client of its own ever loosens.
const (
	HeldName              = "name"
	HeldProof             = "proof"
	HeldRedirects         = "redirects"
	HeldBackchannelLogout = "backchannel_logout"
	HeldIDTokenAlgorithm  = "id_token_algorithm"
	HeldIntrospection     = "introspection_algorithm"
)

// RegistrationPolicy bounds what clients may register for themselves. Empty
// lists allow nothing.
type RegistrationPolicy struct {
	// GrantTypes and Scopes are those that may be registered.
	GrantTypes []string
	Scopes     []string
	// RedirectHosts are the hosts that redirect URIs may name, as they stand
	// in the URI without the port; "*." in front of one allows its subdomains.
	RedirectHosts []string
	// RedirectSchemes are the private-use schemes that redirect URIs of native
	// clients may have (RFC 8252 §7.1).
	RedirectSchemes []string `json:",omitempty"`
	// Require is what each client gets, whether it asks for it or not: some of
	// the Requires.
	Require []string `json:",omitempty"`
}

// What a policy may require of clients, by the name of the metadata (RFC 9126
// §6, RFC 9449 §5.2, RFC 8705 §3.4).
const (
	RequirePushed           = "require_pushed_authorization_requests"
	RequireKeyBound         = "dpop_bound_access_tokens"
	RequireCertificateBound = "tls_client_certificate_bound_access_tokens"
)

// Requires tells whether the policy requires something.
func (p RegistrationPolicy) Requires(what string) bool { return slices.Contains(p.Require, what) }

// RegistrationToken is an initial access token (RFC 7591 §3): whoever holds it
// may register so many clients.
type RegistrationToken struct {
	// ID names it; it proves nothing.
	ID   string
	Hash Hash
	// Note says what it is for.
	Note   string
	Policy RegistrationPolicy
	// UsesLeft is how many clients may still be registered with it.
	UsesLeft  int
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Registrations are the initial access tokens, and clients made with them.
type Registrations interface {
	// CreateRegistrationToken stores a new initial access token.
	CreateRegistrationToken(ctx context.Context, t RegistrationToken) error
	// RegistrationToken is the live token with this hash, or ErrNotFound.
	RegistrationToken(ctx context.Context, hash Hash) (RegistrationToken, error)
	// ListRegistrationTokens are all that can still be used, the oldest first.
	ListRegistrationTokens(ctx context.Context) ([]RegistrationToken, error)
	// DeleteRegistrationToken removes the token with this id, or is
	// ErrNotFound. Clients that were registered with it stay.
	DeleteRegistrationToken(ctx context.Context, id string) error
	// RegisterClient stores a new client and takes one use of the initial
	// access token; a zero hash: none is needed. ErrNotFound: there is no such
	// token, it has expired or is used up. ErrConflict: the id is taken.
	RegisterClient(ctx context.Context, c Client, token Hash) error
	// UpdateRegistration edits a client that registered itself, where this is
	// its registration access token; else it is ErrNotFound. edit sets the
	// next token, and may run more than once.
	UpdateRegistration(ctx context.Context, id string, token Hash, edit func(*Client) error) (Client, error)
	// DeleteRegistration is DeleteClient for a client that registered itself,
	// where this is its registration access token; else it is ErrNotFound.
	DeleteRegistration(ctx context.Context, id string, token Hash) error
}
