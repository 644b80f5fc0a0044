package issuer

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Error codes of OAuth and OpenID Connect.
const (
	codeInvalidRequest          = "invalid_request"
	codeInvalidClient           = "invalid_client"
	codeInvalidGrant            = "invalid_grant"
	codeInvalidScope            = "invalid_scope"
	codeInvalidTarget           = "invalid_target" // RFC 8707 §2
	codeInvalidToken            = "invalid_token"  // RFC 6750 §3.1
	codeInsufficientScope       = "insufficient_scope"
	codeUnauthorizedClient      = "unauthorized_client"
	codeUnsupportedGrantType    = "unsupported_grant_type"
	codeUnsupportedResponseType = "unsupported_response_type"
	codeAccessDenied            = "access_denied"
	codeLoginRequired           = "login_required"
	codeConsentRequired         = "consent_required"
	codeRequestNotSupported     = "request_not_supported"
	codeRequestURINotSupported  = "request_uri_not_supported"
	codeRegistrationNotSupport  = "registration_not_supported"
	codeInvalidMetadata         = "invalid_client_metadata" // RFC 7591 §3.2.2
	codeInvalidRedirectURI      = "invalid_redirect_uri"
	codeServerError             = "server_error"
	codeTemporarilyUnavailable  = "temporarily_unavailable"
	// RFC 8628 §3.5.
	codeAuthorizationPending = "authorization_pending"
	codeSlowDown             = "slow_down"
	codeExpiredToken         = "expired_token"
	codeInvalidProof         = "invalid_dpop_proof" // RFC 9449 §5
	codeUseNonce             = "use_dpop_nonce"     // RFC 9449 §8
)

// failure is an error as the caller may see it; cause is for the log alone.
// The description is constant text, so nothing a caller sent comes back in it.
type failure struct {
	code        string
	description string
	cause       error
	// status is the HTTP status; 0 stands for 400.
	status int
	// challenge is the WWW-Authenticate header; empty: none.
	challenge string
	// retryAfter is the Retry-After header; zero: none.
	retryAfter time.Duration
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.code + ": " + f.description + ": " + f.cause.Error()
	}
	return f.code + ": " + f.description
}

func (f *failure) Unwrap() error { return f.cause }

func fail(code, description string) *failure {
	return &failure{code: code, description: description}
}

// because is the same failure with what the log should know.
func (f *failure) because(cause error) *failure {
	f.cause = cause
	return f
}

// basicChallenge is what a failed client authentication answers (RFC 6749
// §5.2), whichever way the client tried.
const basicChallenge = `Basic realm="gatehouse", charset="UTF-8"`

// badClient is a failed client authentication. It says the same whether the
// client, its secret or its method is wrong.
func badClient(cause error) *failure {
	return &failure{
		code: codeInvalidClient, description: "client authentication failed",
		status: http.StatusUnauthorized, challenge: basicChallenge, cause: cause,
	}
}

// failureOf is the public half of any error: what is not a failure is a
// server_error that tells nothing.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{code: codeServerError, description: "the server could not answer; try again later", status: http.StatusInternalServerError, cause: err}
}

// writeFailure renders a failure as RFC 6749 §5.2 does.
func writeFailure(w http.ResponseWriter, f *failure) {
	status := f.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	if f.challenge != "" {
		w.Header().Set("WWW-Authenticate", f.challenge)
	}
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
	body := map[string]string{"error": f.code}
	if f.description != "" {
		body["error_description"] = f.description
	}
	writeJSON(w, status, body)
}

// writeJSON answers with a document that no cache keeps, unless the header
// already says otherwise.
func writeJSON(w http.ResponseWriter, status int, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
