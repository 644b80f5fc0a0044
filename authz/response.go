package authz

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/token"
)

// maxHeader bounds one claim header, in bytes: what common servers take.
const maxHeader = 4 << 10

// headersFor are what the target is told. A call that goes out to another
// sidecar carries the assertion alone, of which that sidecar makes the rest; a
// request that came in with one keeps it, for the service to verify and pass on.
func headersFor(d *decision, assertion string) (set []*corev3.HeaderValueOption, remove []string, err error) {
	if d.rule.acting != "" {
		return []*corev3.HeaderValueOption{header(envoy.AssertionHeader, assertion)}, []string{envoy.NarrowHeader}, nil
	}
	var actors []string
	if d.assertion != nil {
		actors = d.assertion.Actors()
	}
	if set, remove, err = claimHeaders(d.claims, actors); err != nil {
		return nil, nil, err
	}
	switch {
	case assertion != "":
		set = append(set, header(envoy.AssertionHeader, assertion))
	case d.assertion == nil:
		remove = append(remove, envoy.AssertionHeader)
	}
	return set, remove, nil
}

// claimHeaders are what a service is told of a token: each header is set,
// replacing whatever is there, or removed where the token lacks the claim, so
// that nothing but this step can have put it there.
func claimHeaders(claims *token.Claims, actors []string) (set []*corev3.HeaderValueOption, remove []string, err error) {
	set = make([]*corev3.HeaderValueOption, 0, 8)
	for _, claim := range [...]struct{ name, value string }{
		{envoy.HeaderSubject, encodeValue(claims.Subject())},
		{envoy.HeaderSubjectType, encodeValue(claims.SubjectType())},
		{envoy.HeaderClientID, encodeValue(claims.ClientID())},
		{envoy.HeaderScope, encodeList(claims.Scopes(), " ")},
		{envoy.HeaderRoles, encodeList(claims.Roles(), ",")},
		{envoy.HeaderIssuer, encodeValue(claims.Issuer())},
		{envoy.HeaderActor, encodeList(actors, ",")},
	} {
		switch {
		case claim.value == "":
			remove = append(remove, claim.name)
		case len(claim.value) > maxHeader:
			return nil, nil, deny(ReasonClaimsTooLong, "the header %s would have %d bytes, more than %d", claim.name, len(claim.value), maxHeader)
		default:
			set = append(set, header(claim.name, claim.value))
		}
	}
	return set, remove, nil
}

// streamEnd has Envoy end a stream with its token, or with the route's lease
// where that is sooner. 0 would mean no end at all.
func streamEnd(lease, life time.Duration) *corev3.HeaderValueOption {
	left := max(min(lease, life).Milliseconds(), 1)
	return header(envoy.StreamDurationHeader, strconv.FormatInt(left, 10))
}

// header replaces what is there: the API's own default appends.
func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// admit is the response to an allowed request.
func admit(set []*corev3.HeaderValueOption, remove []string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status:       status.New(codes.OK, "").Proto(),
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: set, HeadersToRemove: remove}},
	}
}

// metadata is what access logs and rate limits read of a decision. It stays
// small, as each field costs as much as a header.
func (d *decision) metadata() *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision_id": structpb.NewStringValue(d.id),
		"reason":      structpb.NewStringValue(string(d.reason)),
	}
	if d.rule != nil {
		fields["route"] = structpb.NewStringValue(d.rule.route)
	}
	// Before a request is allowed its claims must not feed a limit's key.
	if d.claims != nil && d.verdict == allowed {
		fields["subject"] = structpb.NewStringValue(d.claims.Subject())
		fields["subject_type"] = structpb.NewStringValue(d.claims.SubjectType())
		fields["client_id"] = structpb.NewStringValue(d.claims.ClientID())
		fields["issuer"] = structpb.NewStringValue(d.claims.Issuer())
		fields["token_id"] = structpb.NewStringValue(d.claims.ID())
		if plan := d.claims.Plan(); plan != "" {
			fields["plan"] = structpb.NewStringValue(plan)
		}
		if roles := d.claims.Roles(); len(roles) > 0 {
			fields["roles"] = structpb.NewStringValue(encodeList(roles, ","))
		}
		fields["scopes"] = structpb.NewStringValue(encodeList(d.claims.Scopes(), " "))
	}
	return &structpb.Struct{Fields: fields}
}
