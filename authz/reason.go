package authz

import (
	"errors"
	"fmt"
)

// Reason is why a request was allowed or denied: for metrics, events and
// metadata. It is one of the constants below.
type Reason string

// The reasons, by the status that the caller sees.
const (
	ReasonAllowed Reason = "allowed"

	// 400: the request is not well formed (RFC 6750 §3.1).
	ReasonManyCredentials     Reason = "many_credentials"
	ReasonMalformedCredential Reason = "malformed_credential"

	// 401: no access token, or none that is valid here.
	ReasonNoCredential   Reason = "no_credential"
	ReasonMalformedToken Reason = "malformed_token"
	ReasonInvalidToken   Reason = "invalid_token"
	ReasonExpiredToken   Reason = "expired_token"
	ReasonUnknownKey     Reason = "unknown_key"
	ReasonWrongIssuer    Reason = "wrong_issuer"
	ReasonWrongAudience  Reason = "wrong_audience"
	ReasonRevoked        Reason = "revoked"
	// The token is bound to what the request does not prove, or is not bound
	// where it has to be; or the DPoP proof is no good for the request.
	ReasonUnproven Reason = "unproven"
	ReasonUnbound  Reason = "unbound"
	ReasonProof    Reason = "invalid_proof"

	// 403: the token is valid and not enough.
	ReasonInsufficientScope Reason = "insufficient_scope"
	ReasonPolicy            Reason = "policy"
	ReasonClaimsTooLong     Reason = "claims_too_long"
	ReasonPeer              Reason = "peer"
	ReasonWorkloadDenied    Reason = "workload_denied"
	ReasonWiderScope        Reason = "wider_scope"
	ReasonChainTooLong      Reason = "chain_too_long"

	// 503: we cannot know.
	ReasonCaller            Reason = "caller"
	ReasonRuleMissing       Reason = "rule_missing"
	ReasonRuleInvalid       Reason = "rule_invalid"
	ReasonRuleForeign       Reason = "rule_foreign"
	ReasonUnknownIssuer     Reason = "unknown_issuer"
	ReasonKeysMissing       Reason = "keys_missing"
	ReasonTrustMissing      Reason = "trust_missing"
	ReasonAssertionKey      Reason = "assertion_key"
	ReasonRevocationMissing Reason = "revocation_missing"
	ReasonRevocationStale   Reason = "revocation_stale"
	ReasonClock             Reason = "clock"
	ReasonPolicyMissing     Reason = "policy_missing"
	ReasonPolicyError       Reason = "policy_error"
	ReasonProofsFull        Reason = "proofs_full"
	ReasonInternal          Reason = "internal"
)

// denial is the error with which a step of Check ends it. The caller of the
// gateway sees what the reason stands for; the cause is for the operator.
type denial struct {
	reason Reason
	cause  error
	scopes []string // what the route requires; with ReasonInsufficientScope alone
	proof  bool     // the caller is to be told about DPoP
}

func (d *denial) Error() string { return string(d.reason) + ": " + d.cause.Error() }

func (d *denial) Unwrap() error { return d.cause }

// deny makes a denial with its cause in the operator's words.
func deny(reason Reason, format string, args ...any) error {
	return &denial{reason: reason, cause: fmt.Errorf(format, args...)}
}

// denialOf is the denial in err; an error that is none, or none where there
// should be one, is our own fault.
func denialOf(err error) *denial {
	var d *denial
	if errors.As(err, &d) {
		return d
	}
	if err == nil {
		err = errors.New("no step gave a verdict")
	}
	return &denial{reason: ReasonInternal, cause: err}
}
