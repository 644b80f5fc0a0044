package authz

import (
	"encoding/json"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// answer is the public half of a denial: all that the caller of the gateway
// learns. Reasons share answers, so that they tell nothing more.
type answer struct {
	status int
	code   codes.Code
	// challenge is the error code of RFC 6750 §3.1; with a 401 and none, the
	// challenge carries no error, as the request tried no credential.
	challenge string
	detail    string
}

var (
	malformed    = answer{http.StatusBadRequest, codes.InvalidArgument, "invalid_request", "Send exactly one Authorization header: Bearer or DPoP, one space, the access token."}
	anonymous    = answer{http.StatusUnauthorized, codes.Unauthenticated, "", "An access token is required."}
	invalid      = answer{http.StatusUnauthorized, codes.Unauthenticated, "invalid_token", "The access token is not valid here."}
	badProof     = answer{http.StatusUnauthorized, codes.Unauthenticated, "invalid_dpop_proof", "The DPoP proof is not valid for this request."}
	insufficient = answer{http.StatusForbidden, codes.PermissionDenied, "insufficient_scope", "The access token lacks a required scope."}
	forbidden    = answer{http.StatusForbidden, codes.PermissionDenied, "", "The request is not permitted."}
	unavailable  = answer{http.StatusServiceUnavailable, codes.Unavailable, "", "The request cannot be authorized at the moment."}
)

// answerTo maps a reason to its answer. What is not named cannot be known.
func answerTo(reason Reason) answer {
	switch reason {
	case ReasonManyCredentials, ReasonMalformedCredential:
		return malformed
	case ReasonNoCredential:
		return anonymous
	case ReasonMalformedToken, ReasonInvalidToken, ReasonExpiredToken, ReasonUnknownKey,
		ReasonWrongIssuer, ReasonWrongAudience, ReasonRevoked, ReasonUnproven, ReasonUnbound:
		return invalid
	case ReasonProof:
		return badProof
	case ReasonInsufficientScope:
		return insufficient
	case ReasonPolicy, ReasonClaimsTooLong, ReasonPeer, ReasonWorkloadDenied, ReasonWiderScope, ReasonChainTooLong:
		return forbidden
	default:
		return unavailable
	}
}

// wwwAuthenticate is the challenge, empty for answers without one. RFC 6750 §3
// wants at least one parameter, hence the realm where there is no error.
func (a answer) wwwAuthenticate(scopes []string, proof bool) string {
	switch {
	case proof && a.challenge == "insufficient_scope":
		return proofChallenge + `, error="insufficient_scope", scope="` + strings.Join(scopes, " ") + `"`
	case proof && a.challenge != "":
		return proofChallenge + `, error="` + a.challenge + `"`
	case proof && a.status == http.StatusUnauthorized:
		return proofChallenge
	case a.challenge == "insufficient_scope":
		// Scopes are scope-tokens (the rule's were checked), which need no
		// escapes in a quoted string.
		return `Bearer error="insufficient_scope", scope="` + strings.Join(scopes, " ") + `"`
	case a.challenge != "":
		return `Bearer error="` + a.challenge + `"`
	case a.status == http.StatusUnauthorized:
		return `Bearer realm="gatehouse"`
	default:
		return ""
	}
}

// problem is the body (RFC 9457). Without a type of its own a problem's title
// is the status's phrase (§4.2.1).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
}

// render is the response to a denied request.
func (d *denial) render(r *request, requestID string) *authv3.CheckResponse {
	a := answerTo(d.reason)
	headers := []*corev3.HeaderValueOption{header("cache-control", "no-store")}
	if challenge := a.wwwAuthenticate(d.scopes, d.proof); challenge != "" {
		headers = append(headers, header("www-authenticate", challenge))
	}
	body := a.detail
	if !r.grpc {
		// For gRPC, Envoy makes the body the grpc-message and sets its own
		// content type.
		headers = append(headers, header("content-type", "application/problem+json"))
		body = a.problem(requestID)
	}
	return &authv3.CheckResponse{
		Status: status.New(a.code, "").Proto(),
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(a.status)},
			Headers: headers,
			Body:    body,
		}},
	}
}

func (a answer) problem(requestID string) string {
	body, err := json.Marshal(problem{Type: "about:blank", Title: http.StatusText(a.status), Status: a.status, Detail: a.detail, RequestID: requestID})
	if err != nil {
		return "" // strings and a number: cannot be
	}
	return string(body)
}
