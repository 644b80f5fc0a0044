package store

import "time"

// ClientType is how a client proves itself. Zero is no type.
type ClientType uint8

// Client types (RFC 6749 §2.1, RFC 8252 §8.4).
const (
	// Confidential clients have a secret.
	Confidential ClientType = iota + 1
	// Public clients run in a browser and have none.
	Public
	// Native clients are installed applications and have none; the port of a
	// loopback redirect may vary.
	Native
)

// Client is an application that may ask for tokens.
type Client struct {
	// ID never begins with UserIDPrefix.
	ID   string
	Name string
	Type ClientType
	// Secret is the hash of a confidential client's secret. Secrets are 256
	// random bits, so a plain hash is as good as a slow one.
	Secret Hash
	// Proof is how the client proves itself, if not by a secret.
	Proof        ClientProof
	GrantTypes   []string
	RedirectURIs []string
	// PostLogoutRedirectURIs are where a browser may be sent after a logout that
	// the client asked for.
	PostLogoutRedirectURIs []string
	// BackchannelLogoutURI is told when a session of the client's ends; empty:
	// it is not.
	BackchannelLogoutURI string
	// Scopes are what the client may ask for.
	Scopes []string
	// AccessTokenLifetime is the longest life of its access tokens; zero: as
	// long as their APIs allow.
	AccessTokenLifetime time.Duration
	// IDTokenAlgorithm signs its ID tokens; empty: ES256.
	IDTokenAlgorithm string
	// IntrospectionAlgorithm signs the introspections that it asks for as a JWT
	// (introspection_signed_response_alg, RFC 9701 §6); empty: ES256.
	IntrospectionAlgorithm string `json:",omitempty"`
	// RequirePushed: its authorization requests are pushed (RFC 9126 §6).
	RequirePushed bool
	// BindToKey: its access tokens are bound to a DPoP key, or there are none
	// (dpop_bound_access_tokens, RFC 9449 §5.2).
	BindToKey bool
	// BindToCertificate: its access tokens are bound to its TLS certificate, or
	// there are none (tls_client_certificate_bound_access_tokens, RFC 8705
	// §3.4).
	BindToCertificate bool
	// Attributes are what the site knows of it beside, such as its plan; APIs may
	// ask for them as claims.
	Attributes map[string]string `json:",omitempty"`
	// Disabled clients are refused like unknown ones.
	Disabled bool `json:",omitempty"`
	// Registration is set where the client registered itself (RFC 7591).
	Registration *Registration `json:",omitempty"`
	// CreatedAt is kept by the store.
	CreatedAt time.Time
	// NotBefore: what was issued to the client at or before it (Unix seconds)
	// is dead. Kept by the store.
	NotBefore int64
}

// UserIDPrefix begins every user's id and no client's, so that a subject is
// never both.
const UserIDPrefix = "usr_"

// User is a person.
type User struct {
	// ID begins with UserIDPrefix and is never used again.
	ID    string
	Login Login
	Name  string
	Email string
	// Roles are the user's own, Groups the ids of the user's groups.
	Roles  []string
	Groups []string `json:",omitempty"`
	// Attributes are what the site knows of the user beside, such as the plan;
	// APIs may ask for them as claims.
	Attributes map[string]string `json:",omitempty"`
	// AllRoles are the user's own and those of the groups as they are now:
	// what the user may do. Filled in by the store whenever it reads a user.
	AllRoles []string `json:"-"`
	// GroupNames are the names of the groups as they are now, filled in
	// likewise.
	GroupNames []string `json:"-"`
	// Disabled users cannot log in, and nothing is issued for them.
	Disabled bool `json:",omitempty"`
	// Password is a PHC string or an imported bcrypt hash (package password);
	// empty: the user cannot log in by password.
	Password string
	// CreatedAt is kept by the store.
	CreatedAt time.Time
	// NotBefore: what was issued for the user at or before it (Unix seconds)
	// is dead. Kept by the store.
	NotBefore int64
}

// Group is a set of people who have roles in common.
type Group struct {
	// ID is never used again, so that a group of the same name does not
	// inherit the members of a deleted one.
	ID          string
	Name        string
	Description string
	Roles       []string
	// CreatedAt is kept by the store.
	CreatedAt time.Time
}

// Session is a person's login in one browser.
type Session struct {
	// ID is the sid claim: tokens carry it, it proves nothing.
	ID string
	// Cookie is the hash of the secret in the browser's cookie.
	Cookie Hash
	UserID string
	// AuthTime is when the person proved who they are.
	AuthTime time.Time
	// IssuedAt is kept by the store.
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Logout is what a client has still to be told: that a session has ended, or
// all of a user's.
type Logout struct {
	ID       string
	ClientID string
	UserID   string
	// SessionID is empty where every session of the user's has ended.
	SessionID string
	// EndedAt is kept by the store.
	EndedAt time.Time
	// Attempts is how often it was tried in vain, DueAt when to try next.
	Attempts int
	DueAt    time.Time
}

// Consent is what a user has allowed a client.
type Consent struct {
	UserID   string
	ClientID string
	Scopes   []string
	// GivenAt is when scopes were last added.
	GivenAt time.Time
}

// Code is an authorization code and all that its redemption needs.
type Code struct {
	Hash        Hash
	ClientID    string
	UserID      string
	SessionID   string
	RedirectURI string
	Scopes      []string
	Audience    []string
	Nonce       string
	// Challenge is the S256 code_challenge (RFC 7636), as it was sent.
	Challenge string
	// KeyThumbprint is the key that has to prove the redemption (dpop_jkt, RFC
	// 9449 §10); empty: none does.
	KeyThumbprint string
	AuthTime      time.Time
	// IssuedAt is kept by the store.
	IssuedAt  time.Time
	ExpiresAt time.Time
	// ConsumedAt is when it was first presented; zero: not yet.
	ConsumedAt time.Time
	// ReplayedAt is when it was first presented again; zero: not yet.
	ReplayedAt time.Time `json:",omitzero"`
	// GrantID is the grant that its redemption created; empty: none.
	GrantID string
}

// Grant is what a person gave a client, and the family of the refresh tokens
// that follow from it.
type Grant struct {
	ID        string
	UserID    string
	ClientID  string
	SessionID string
	Scopes    []string
	Audience  []string
	AuthTime  time.Time
	// IssuedAt is kept by the store.
	IssuedAt time.Time
	// Holder is what has to be proven whenever a refresh token is used; zero:
	// nothing.
	Holder Holder
	// ExpiresAt ends the whole family; rotation does not move it.
	ExpiresAt time.Time
	// RevokedAt is zero while the grant lives.
	RevokedAt time.Time
}

// RefreshToken is one link of a family: all but the last are used.
type RefreshToken struct {
	Hash     Hash
	GrantID  string
	IssuedAt time.Time
	// UsedAt is when it was replaced; zero: it is the last link.
	UsedAt time.Time
	// Successor is the hash of the token that replaced it.
	Successor Hash
}

// KeyState is where a signing key is in its life. Zero is no state.
type KeyState uint8

// Key states, in order.
const (
	// KeyNext is published but does not sign yet.
	KeyNext KeyState = iota + 1
	// KeyActive signs.
	KeyActive
	// KeyRetired signs no more; tokens it signed still verify.
	KeyRetired
	// KeyPurged was thrown away: what it signed is refused. Only the fact is
	// kept.
	KeyPurged
)

// String is the state's name.
func (s KeyState) String() string {
	return map[KeyState]string{KeyNext: "next", KeyActive: "active", KeyRetired: "retired", KeyPurged: "purged"}[s]
}

// Key is a signing key.
type Key struct {
	// ID is the RFC 7638 thumbprint.
	ID string
	// Algorithm is the JWS algorithm, the only one the key is used with.
	Algorithm string
	State     KeyState
	// Public is the public JWK; Sealed the encrypted private one.
	Public    []byte
	Sealed    []byte
	CreatedAt time.Time
	// ActiveAt is when it began to sign, or will.
	ActiveAt time.Time
	// RetiredAt is when it stopped signing: retired or purged.
	RetiredAt time.Time
}

// KeyChange is what becomes of the signing keys.
type KeyChange struct {
	// Put are new keys and new versions of old ones.
	Put []Key
	// Purge throws away keys: the private part is erased, the state becomes
	// KeyPurged, and the revocation log says so.
	Purge []string
	// Delete removes what is left of keys.
	Delete []string
}

// Kind is what a revocation is about; the numbers are the feed's.
type Kind uint8

// Kinds of revocations.
const (
	KindToken Kind = iota + 1
	KindSession
	KindGrant
	KindKey
	KindSubject
	KindClient
)

// Revocation is an entry in the revocation log.
type Revocation struct {
	// Sequence is its place in the log, from 1.
	Sequence uint64
	Kind     Kind
	ID       string
	// NotBefore (Unix seconds) is set for KindSubject and KindClient: tokens
	// issued at or before it are refused.
	NotBefore int64
	// ExpiresAt is when no token that it concerns can be alive any more.
	ExpiresAt time.Time
}

// TokenRefs is what an access token hangs on; empty fields do not count.
type TokenRefs struct {
	ID        string
	SessionID string
	GrantID   string
	KeyID     string
	// UserID is the subject, where that is a person.
	UserID   string
	ClientID string
	IssuedAt time.Time
	// Ancestors are the tokens that it was made from.
	Ancestors []TokenRefs
}
