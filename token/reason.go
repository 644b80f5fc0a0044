package token

import (
	"errors"
	"fmt"
)

// Reason is why a token was refused, for machines: it is one of the constants
// below and safe to use as a metric's label.
type Reason string

// The reasons for refusing a token.
const (
	// ReasonMalformed: it is no compact JWS with strict JSON inside, or a
	// member that we read has a value of the wrong kind.
	ReasonMalformed Reason = "malformed"
	// ReasonAlgorithm: the algorithm is none of ours, not allowed for the
	// issuer, or not the key's.
	ReasonAlgorithm Reason = "algorithm"
	// ReasonType: it is a token for another purpose, by its typ.
	ReasonType Reason = "type"
	// ReasonIssuer: another issuer made it, or it does not say which.
	ReasonIssuer Reason = "issuer"
	// ReasonAudience: an assertion for another service.
	ReasonAudience Reason = "audience"
	// ReasonKeysUnavailable: the issuer's keys are not known at the moment. It
	// says nothing of the token.
	ReasonKeysUnavailable Reason = "keys_unavailable"
	// ReasonUnknownKey: no key of the issuer has its kid. The key may be new:
	// see Remote.Refresh.
	ReasonUnknownKey Reason = "unknown_key"
	// ReasonSignature: the key did not sign it.
	ReasonSignature Reason = "signature"
	// ReasonClaim: the issuer signed it, but a claim is missing, contradicts
	// another or asks for a check that we do not make.
	ReasonClaim Reason = "claim"
	// ReasonExpired: its time is over.
	ReasonExpired Reason = "expired"
	// ReasonNotYetValid: its time is still to come.
	ReasonNotYetValid Reason = "not_yet_valid"
	// ReasonLifetime: it lives longer than its issuer's tokens may.
	ReasonLifetime Reason = "lifetime"
	// ReasonCanceled: the caller's context ended first. It says nothing of the
	// token.
	ReasonCanceled Reason = "canceled"
)

// Error is why a token was refused. Its text is for operators: it quotes
// nothing of the token but its kid, typ, alg, iss and names of its members,
// shortened and escaped.
type Error struct {
	Reason Reason
	cause  error
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.cause.Error() }

func (e *Error) Unwrap() error { return e.cause }

// ReasonOf is the reason in err; empty if err is no refusal of a token.
func ReasonOf(err error) Reason {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Reason
	}
	return ""
}

func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, cause: fmt.Errorf(format, args...)}
}

// maxQuoted bounds what of a token an error repeats, in bytes.
const maxQuoted = 64

// quoted makes what somebody else chose fit for an operator's log.
func quoted(s string) string {
	if len(s) > maxQuoted {
		return fmt.Sprintf("%+q…", s[:maxQuoted])
	}
	return fmt.Sprintf("%+q", s)
}
