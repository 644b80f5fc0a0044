package token

import (
	"slices"
	"time"
)

const (
	// TypeAssertion is the typ of an assertion, exactly: no other token has it.
	TypeAssertion = "gatehouse-assertion+jwt"
	// MaxAssertionLife is the longest time from iat to exp of an assertion.
	MaxAssertionLife = 60 * time.Second
	// MaxActors bounds the services on whose way a request may be.
	MaxActors = 8
)

// Assertion is what an authorizer vouches for towards one service: who calls,
// with which rights, and through whom. Claim names follow the IETF draft of
// Transaction Tokens where they fit. It is immutable and safe for concurrent
// use; slices may not be changed. Only an AssertionVerifier makes one that
// names anybody.
type Assertion struct {
	claims      Claims
	issuer      string
	transaction string
	requester   string
	actors      []string
	issued      date
	expires     date
	signer      *Key
}

// Claims are those of the access token that the assertion was made from, less
// what was narrowed: issuer, jti, sid, grant, kid, iat and exp are the token's,
// the audience is the assertion's. Raw has the assertion's own claims.
func (a *Assertion) Claims() *Claims { return &a.claims }

// Subject is sub: the person or client that the request is for.
func (a *Assertion) Subject() string { return a.claims.subject }

// SubjectType is SubjectUser or SubjectClient.
func (a *Assertion) SubjectType() string { return a.claims.SubjectType() }

// ClientID is client_id: the client that got the access token.
func (a *Assertion) ClientID() string { return a.claims.clientID }

// Scopes are the members of scope; nil if it has none.
func (a *Assertion) Scopes() []string { return a.claims.scopes }

// HasScope tells whether scope is among the scopes.
func (a *Assertion) HasScope(scope string) bool { return slices.Contains(a.claims.scopes, scope) }

// Roles is roles; nil if it has none.
func (a *Assertion) Roles() []string { return a.claims.roles }

// TokenIssuer is the issuer of the access token.
func (a *Assertion) TokenIssuer() string { return a.claims.issuer }

// Audience is aud: the SPIFFE id of the one service that it is for.
func (a *Assertion) Audience() string {
	if len(a.claims.audience) == 0 {
		return ""
	}
	return a.claims.audience[0]
}

// Transaction is txn: the request at the edge that the first assertion of the
// call chain was made for, the same along the chain.
func (a *Assertion) Transaction() string { return a.transaction }

// Requester is req_wl: the SPIFFE id of the workload that it was made for,
// which is the one that calls.
func (a *Assertion) Requester() string { return a.requester }

// Actors are the SPIFFE ids of the services that call on the subject's behalf,
// the nearest first (act, RFC 8693 §4.1); nil if the request is from the edge.
func (a *Assertion) Actors() []string { return a.actors }

// IssuedAt is iat, in UTC.
func (a *Assertion) IssuedAt() time.Time { return a.issued.time() }

// ExpiresAt is exp, in UTC.
func (a *Assertion) ExpiresAt() time.Time { return a.expires.time() }

// KeyID is the kid of the authorizer's key that signed it.
func (a *Assertion) KeyID() string {
	if a.signer == nil {
		return ""
	}
	return a.signer.id
}

// Size is roughly what keeping it takes, in bytes.
func (a *Assertion) Size() int64 { return 2 * a.claims.size() }
