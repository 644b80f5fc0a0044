package store

import "time"

// Redemption asks to redeem an authorization code.
type Redemption struct {
	Code Hash
	// ClientID is the authenticated client that presents it.
	ClientID string
	// Decide holds the request against what the code was issued for (redirect
	// URI, PKCE) and says what is granted. It may run more than once, so it
	// only computes.
	Decide func(Code) (Terms, error)
	// GrantID names the grant to be created.
	GrantID string
}

// Terms are what a redeemed code leads to.
type Terms struct {
	// ExpiresAt ends the grant and every refresh token of it.
	ExpiresAt time.Time
	// Refresh is the hash of the first refresh token; zero: none.
	Refresh Hash
	// Holder is what the refresh tokens are bound to; zero: nothing.
	Holder Holder
}

// Rotation asks to replace a refresh token.
type Rotation struct {
	Token Hash
	// Successor is the hash of the token that takes its place. It is derived
	// from the predecessor (Successor), so a retry names the same one.
	Successor Hash
	// ClientID is the authenticated client that presents it.
	ClientID string
	// Grace is how long after the rotation a retry gets the same successor.
	Grace time.Duration
	// Check holds the request against the grant (narrowed scopes). It may run
	// more than once, so it only computes. nil: no further checks.
	Check func(Grant) error
}

// Issuance is what tokens may now be made from.
type Issuance struct {
	// Code is set by RedeemCode.
	Code Code
	// Grant and User are as they were in the transaction.
	Grant Grant
	User  User
	// IssuedAt is the iat for these tokens: after every not-before that
	// concerns them.
	IssuedAt time.Time
	// Repeated tells that RotateRefresh answered a retry.
	Repeated bool
}

// IssuedAt is the iat for a token made now: whole seconds, later than each
// not-before. Take the time first and read the not-befores after, so that a
// revocation in between covers the token.
func IssuedAt(now time.Time, notBefore ...int64) time.Time {
	second := now.Unix()
	for _, n := range notBefore {
		second = max(second, n+1)
	}
	return time.Unix(second, 0).UTC()
}
