package token

import "errors"

// Unverified is a token that is well formed, and nothing more: anybody can
// write one. It is immutable.
type Unverified struct {
	compact
	token string
	head  header
	body  payload
}

// Parse reads a compact JWS strictly; see the package comment for what is
// refused. The error is an *Error with ReasonMalformed or ReasonAlgorithm.
func Parse(token string) (*Unverified, error) {
	parts, err := split(token)
	if err != nil {
		return nil, malformed(err)
	}
	u := &Unverified{compact: parts, token: token}
	if u.head, err = parseHeader(parts.header); err != nil {
		return nil, malformed(err)
	}
	if u.body, err = parsePayload(parts.payload); err != nil {
		return nil, malformed(err)
	}
	return u, nil
}

// malformed keeps a reason that the error already has.
func malformed(err error) error {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal
	}
	return &Error{Reason: ReasonMalformed, cause: err}
}

// Issuer is whom the token names as its issuer, to choose a Verifier; empty if
// nobody.
func (u *Unverified) Issuer() string { return u.body.issuer }

// KeyID is the kid that the token names.
func (u *Unverified) KeyID() string { return u.head.kid }

// Type is the token's typ.
func (u *Unverified) Type() string { return u.head.typ }
