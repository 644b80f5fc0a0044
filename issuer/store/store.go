// Package store is what the issuer remembers: clients, people, sessions,
// grants, codes, refresh tokens, consents, signing keys and the revocation log.
//
// The seam is one interface per noun, together Store; a backend (bolt) proves
// itself with the suite in storetest. Whatever must be decided and written
// together is one method and one transaction: redeeming a code, rotating a
// refresh token, revoking. Of codes and tokens only hashes are kept (RFC 9700
// §4.14.2 on what may be stolen), of signing keys only sealed bytes.
//
// What is revoked stays revoked in two ways. The grant, session, client or user
// itself refuses to be used again; and an entry in the revocation log tells
// every gateway. The log's sequence is gapless and assigned inside the
// committing transaction, so whoever reads it after a commit misses nothing.
//
// Clients and users carry a not-before (Unix seconds): tokens, grants and
// sessions issued at or before it are dead. Revoking raises it to the present
// second at least, and what is issued next is dated after it (IssuedAt), so
// that no revocation has to look for what it ends.
package store

import (
	"context"
	"io"
	"time"
)

// Store is all of it. Every method is atomic and safe for parallel use; what it
// returns without error is durable. Records are values: changing one that was
// returned changes nothing in the store.
type Store interface {
	Clients
	Registrations
	Users
	Groups
	Sessions
	Consents
	Logouts
	Codes
	Grants
	Keys
	Revocations
	Onces
	PushedRequests
	Devices
	Audit

	// Sweep removes what has expired, at most limit records; more tells that
	// there is more to remove.
	Sweep(ctx context.Context, limit int) (removed int, more bool, err error)
	// Backup writes a consistent copy of the store while it is in use.
	Backup(ctx context.Context, w io.Writer) error
	Close() error
}

// Clients are the applications that may ask for tokens.
type Clients interface {
	// CreateClient stores a new client. ErrConflict: the id is taken. A client
	// that takes the id of a deleted one inherits nothing of it.
	CreateClient(ctx context.Context, c Client) error
	// Client is the client with this id, or ErrNotFound.
	Client(ctx context.Context, id string) (Client, error)
	// ListClients are at most limit clients with an id after this one, by id.
	ListClients(ctx context.Context, after string, limit int) ([]Client, error)
	// ClientsRevision is another one whenever a client has come, changed or gone.
	ClientsRevision(ctx context.Context) (uint64, error)
	// UpdateClient edits a client and returns it as it is now, or is
	// ErrNotFound. edit may run more than once, so it only computes; its error
	// changes nothing. Disabling revokes all that the client was issued. Id,
	// secret and times stay as they are; but the secret of a client that proves
	// itself otherwise goes, or it would be good again one day.
	UpdateClient(ctx context.Context, id string, edit func(*Client) error) (Client, error)
	// SetClientSecret replaces the hash of the secret, or is ErrNotFound.
	SetClientSecret(ctx context.Context, id string, secret Hash) error
	// DeleteClient removes the client and revokes all that it was issued, or
	// is ErrNotFound.
	DeleteClient(ctx context.Context, id string) error
	// RevokeClient ends every grant and token of the client, and the consents
	// given to it, or is ErrNotFound.
	RevokeClient(ctx context.Context, id string) error
}

// Users are the people who log in.
type Users interface {
	// CreateUser stores a new user. ErrConflict: the id or login is taken.
	CreateUser(ctx context.Context, u User) error
	// User is the user with this id, or ErrNotFound.
	User(ctx context.Context, id string) (User, error)
	// UserByLogin is the user with this login, or ErrNotFound.
	UserByLogin(ctx context.Context, login Login) (User, error)
	// ListUsers are at most limit users with a login after this one, by login.
	ListUsers(ctx context.Context, after Login, limit int) ([]User, error)
	// UpdateUser edits a user and returns them as they are now, or is
	// ErrNotFound. edit may run more than once, so it only computes; its error
	// changes nothing. ErrConflict: the new login is taken. Disabling, and a
	// new password hash, revoke all that was issued for the user. Id and times
	// stay as they are.
	UpdateUser(ctx context.Context, id string, edit func(*User) error) (User, error)
	// UpgradePassword replaces a password's hash by another one of the same
	// password, where it is still the old hash; nobody is logged out.
	UpgradePassword(ctx context.Context, id, oldHash, newHash string) error
	// SetPassword replaces the password's hash and ends every session, grant
	// and token of the user, or is ErrNotFound.
	SetPassword(ctx context.Context, id, passwordHash string) error
	// DeleteUser removes the user and revokes all that was issued for them, or
	// is ErrNotFound.
	DeleteUser(ctx context.Context, id string) error
	// RevokeUser ends every session, grant and token of the user, or is
	// ErrNotFound.
	RevokeUser(ctx context.Context, id string) error
}

// Groups are sets of people. Whoever is in one has its roles.
type Groups interface {
	// CreateGroup stores a new group. ErrConflict: the id or name is taken.
	CreateGroup(ctx context.Context, g Group) error
	// Group is the group with this id, or ErrNotFound.
	Group(ctx context.Context, id string) (Group, error)
	// GroupByName is the group with this name, or ErrNotFound.
	GroupByName(ctx context.Context, name string) (Group, error)
	// ListGroups are at most limit groups with a name after this one, by name.
	ListGroups(ctx context.Context, after string, limit int) ([]Group, error)
	// UpdateGroup edits a group and returns it as it is now, or is ErrNotFound.
	// edit may run more than once, so it only computes; its error changes
	// nothing. ErrConflict: the new name is taken.
	UpdateGroup(ctx context.Context, id string, edit func(*Group) error) (Group, error)
	// DeleteGroup removes a group, or is ErrNotFound. Its members lose its
	// roles at once.
	DeleteGroup(ctx context.Context, id string) error
}

// Sessions are people's logins in a browser.
type Sessions interface {
	// CreateSession stores a new session and returns it with IssuedAt filled
	// in. ErrConflict: the id or cookie is taken. ErrNotFound: no such user.
	CreateSession(ctx context.Context, s Session) (Session, error)
	// ReplaceSession stores a new login in a browser that has a session. Where
	// the old one is alive and the same user's, it goes on under its id, with
	// its grants, and with the new cookie and times; its old cookie is dead.
	// Where it is another user's, that one is revoked. The session is returned
	// as it is now; errors are those of CreateSession.
	ReplaceSession(ctx context.Context, old Hash, s Session) (Session, error)
	// SessionByCookie is the live session behind a cookie, with its user.
	// ErrNotFound: there is none, or it has ended in whatever way.
	SessionByCookie(ctx context.Context, cookie Hash) (Session, User, error)
	// RevokeSession ends a session, the grants made in it and their tokens. A
	// session that is gone already is revoked all the same, for tokens may
	// outlive it.
	RevokeSession(ctx context.Context, id string) error
	// ListSessions are at most limit live sessions of a user with an id after
	// this one, by id.
	ListSessions(ctx context.Context, userID, after string, limit int) ([]Session, error)
}

// Consents are what people have allowed clients.
type Consents interface {
	// SaveConsent adds scopes to those that a user has allowed a client.
	// ErrNotFound: no such user or client.
	SaveConsent(ctx context.Context, userID, clientID string, scopes []string) error
	// Consent is what a user has allowed a client, or ErrNotFound.
	Consent(ctx context.Context, userID, clientID string) (Consent, error)
	// RevokeConsent forgets it. Grants made under it stay: revoke them too.
	RevokeConsent(ctx context.Context, userID, clientID string) error
	// ListConsents are at most limit consents of a user in force, to clients
	// with an id after this one, by client id.
	ListConsents(ctx context.Context, userID, after string, limit int) ([]Consent, error)
}

// Logouts are an outbox: what ends sessions (RevokeSession, ReplaceSession,
// RevokeUser, SetPassword, DeleteUser) enters, in its own transaction, a Logout
// for each client with a BackchannelLogoutURI that had a grant in the session
// or, where all sessions of a user end, the user's consent.
type Logouts interface {
	// DueLogouts are at most limit of those whose time has come, the earliest
	// first.
	DueLogouts(ctx context.Context, limit int) ([]Logout, error)
	// NextLogout is when the earliest of all is due; zero: there is none.
	NextLogout(ctx context.Context) (time.Time, error)
	// RetryLogout counts an attempt in vain and puts the next one off.
	RetryLogout(ctx context.Context, l Logout, at time.Time) error
	// PostponeLogout puts off one that was not attempted.
	PostponeLogout(ctx context.Context, l Logout, at time.Time) error
	// EndLogout takes it out.
	EndLogout(ctx context.Context, l Logout) error
}

// Codes are authorization codes (RFC 6749 §4.1).
type Codes interface {
	// CreateCode stores a code and returns it with IssuedAt filled in: the
	// first write of an authorization, made once a person has consented.
	// ErrNotFound: its client or user is gone, or its session has ended.
	CreateCode(ctx context.Context, c Code) (Code, error)
	// RedeemCode consumes a code, exactly once, and creates its grant and,
	// where the terms have one, its first refresh token.
	//
	// ErrNotFound: no such code, or another client's (which then learns and
	// changes nothing). ErrExpired: too late. ErrConsumed: it was presented
	// before; the grant it created, if any, is revoked with all its tokens
	// (RFC 6749 §4.1.2); ErrReplayed: not for the first time. ErrRevoked: client, user or session has been revoked
	// since. An error of Decide: the code is spent, nothing was created.
	RedeemCode(ctx context.Context, r Redemption) (Issuance, error)
}

// Grants are what people have given clients, and the families of refresh
// tokens that live under them.
type Grants interface {
	// Grant is the live grant with this id. ErrNotFound: no such grant, or it
	// has ended in whatever way.
	Grant(ctx context.Context, id string) (Grant, error)
	// RevokeGrant ends a grant and its tokens, or is ErrNotFound. Revoking it
	// again changes nothing.
	RevokeGrant(ctx context.Context, id string) error
	// RefreshToken is the refresh token with this hash and its live grant. A
	// token with UsedAt set opens nothing any more, but names the grant that
	// its holder may revoke. ErrNotFound: no such token, or its grant has
	// ended.
	RefreshToken(ctx context.Context, token Hash) (RefreshToken, Grant, error)
	// RotateRefresh replaces a refresh token by its one successor.
	//
	// A token that was already replaced is answered with the same successor
	// again (Issuance.Repeated) within the grace time, as long as the successor
	// itself has not been used. Any other reuse means that two parties hold
	// the family: it is revoked, with its access tokens, and the error is
	// ErrConsumed. ErrNotFound: no such token, or another client's (which then
	// learns and changes nothing). ErrExpired, ErrRevoked: the grant has
	// ended. ErrConflict: a repeat within grace that names another successor
	// than the one on record; nothing changes. An error of Check: nothing
	// changes.
	RotateRefresh(ctx context.Context, r Rotation) (Issuance, error)
}

// Keys are the signing keys.
type Keys interface {
	// ListKeys are all keys, the oldest first.
	ListKeys(ctx context.Context) ([]Key, error)
	// UpdateKeys applies change to all keys in one transaction and returns
	// what is stored then. change may run more than once, so it only computes;
	// its error is returned and changes nothing.
	UpdateKeys(ctx context.Context, change func(keys []Key) (KeyChange, error)) ([]Key, error)
}

// Revocations are the revocation log and the state that it adds up to.
type Revocations interface {
	// RevokeToken revokes one access token until it has expired everywhere.
	RevokeToken(ctx context.Context, jti string, expiresAt time.Time) error
	// Alive tells whether a token that verifies is still good: nothing it
	// hangs on is revoked or deleted.
	Alive(ctx context.Context, t TokenRefs) (bool, error)

	// Epoch names this log: random, made with the store.
	Epoch() string
	// LastSequence is where the log ends; 0: it is empty.
	LastSequence(ctx context.Context) (uint64, error)
	// Log is at most limit entries after a sequence, in order, without gaps.
	// ErrTrimmed: it no longer reaches back that far, or never came that far;
	// read the state instead.
	Log(ctx context.Context, after uint64, limit int) ([]Revocation, error)
	// State is at most limit of the revocations in force, those after a cursor
	// (nil: the first); next is nil after the last part. Read LastSequence
	// before the first part: all parts together then hold everything up to it,
	// perhaps with some that came later, which the log repeats harmlessly.
	State(ctx context.Context, cursor []byte, limit int) (part []Revocation, next []byte, err error)
	// Changed is closed at the next commit that lengthens the log. Ask for it
	// before reading the log, then nothing is missed.
	Changed() <-chan struct{}
}
